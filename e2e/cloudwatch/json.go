package cloudwatch

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"

	"ecsmesh/shared/awsapi"
)

// call asks one of CloudWatch's services, which speak JSON too: of what the
// SDK's clients speak, the emulator has not all.
func call(ctx context.Context, cfg aws.Config, service, operation string, input, output any) error {
	body, err := json.Marshal(input)
	if err != nil {
		return fmt.Errorf("encode the request: %w", err)
	}
	answer, err := awsapi.Do(ctx, cfg, awsapi.Request{
		Service: service, Target: operation, ContentType: "application/x-amz-json-1.1", Body: string(body),
	})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer, output); err != nil {
		return fmt.Errorf("decode the answer: %w", err)
	}
	return nil
}

// strictly decodes JSON and refuses members that into has no place for.
func strictly(data []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}
