package check

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/hashicorp/consul/api"

	"ecsmesh/initcontainer/config"
)

// probeGRPC asks the standard health service (grpc.health.v1.Health/Check).
// That is one message each way over HTTP/2, which the standard library
// speaks; a gRPC library would add half again to the binary's size.
func probeGRPC(ctx context.Context, check config.Check) status {
	target, service, _ := strings.Cut(check.GRPC, "/")
	serving, err := askHealth(ctx, target, service)
	if err != nil {
		return critical(check, err)
	}
	name, known := map[uint64]string{0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}[serving]
	if !known {
		name = fmt.Sprintf("status %d", serving)
	}
	output := fmt.Sprintf("gRPC %s: %s", check.GRPC, name)
	if name == "SERVING" {
		return status{api.HealthPassing, output}
	}
	return status{api.HealthCritical, output}
}

func askHealth(ctx context.Context, target, service string) (serving uint64, err error) {
	// HealthCheckRequest has one field: service, a string, number 1.
	var message []byte
	if service != "" {
		message = append(message, 1<<3|2)
		message = binary.AppendUvarint(message, uint64(len(service)))
		message = append(message, service...)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+target+"/grpc.health.v1.Health/Check", bytes.NewReader(frame(message)))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/grpc")
	request.Header.Set("TE", "trailers")
	transport := &http.Transport{DisableKeepAlives: true, Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err != nil {
		return 0, err
	}
	code := response.Trailer.Get("Grpc-Status")
	if code == "" {
		code = response.Header.Get("Grpc-Status") // an answer without a message
	}
	if response.StatusCode != http.StatusOK || code != "0" {
		return 0, fmt.Errorf("HTTP status %d, gRPC status %q", response.StatusCode, code)
	}
	return servingStatus(body)
}

// frame puts gRPC's five bytes before a message: not compressed, and its length.
func frame(message []byte) []byte {
	framed := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))) //nolint:gosec // a service's name
	return append(framed, message...)
}

// servingStatus reads a framed HealthCheckResponse, which has one field:
// status, an enum, number 1, absent where it is 0.
func servingStatus(body []byte) (uint64, error) {
	if len(body) < 5 || body[0] != 0 || int(binary.BigEndian.Uint32(body[1:5])) != len(body)-5 {
		return 0, errors.New("the answer is no gRPC message")
	}
	message := body[5:]
	if len(message) == 0 {
		return 0, nil
	}
	if message[0] != 1<<3 {
		return 0, errors.New("the answer is no HealthCheckResponse")
	}
	serving, n := binary.Uvarint(message[1:])
	if n <= 0 {
		return 0, errors.New("the answer is no HealthCheckResponse")
	}
	return serving, nil
}
