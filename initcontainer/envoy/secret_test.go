package envoy

import (
	"strings"
	"testing"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

func TestTokensAreWhatEnvoyReads(t *testing.T) {
	const token = "11111111-2222-3333-4444-555555555555"
	content, err := Token(token)
	if err != nil {
		t.Fatal(err)
	}
	var response discoveryv3.DiscoveryResponse
	decodeStrictly(t, content, &response)
	if len(response.GetResources()) != 1 {
		t.Fatalf("got %d secrets", len(response.GetResources()))
	}
	var secret tlsv3.Secret
	if err := response.GetResources()[0].UnmarshalTo(&secret); err != nil {
		t.Fatal(err)
	}
	if got := secret.GetGenericSecret().GetSecret().GetInlineString(); secret.GetName() != tokenSecret || got != token {
		t.Errorf("Envoy reads %q from %q", got, secret.GetName())
	}
	if got, err := Secret(content); err != nil || got != token {
		t.Errorf("read back: %q, %v", got, err)
	}
}

// TestAFileThatHoldsNoTokenIsNotCited has files that may be anything, such as
// half of one with a token.
func TestAFileThatHoldsNoTokenIsNotCited(t *testing.T) {
	const token = "11111111-2222-3333-4444-555555555555"
	for _, file := range []string{
		``, `null`, `{}`, `{"resources": []}`, `{"resources": [{}]}`, `{"resources": [{"generic_secret": {"secret": {"inline_string": ""}}}]}`,
		token, `"` + token + `"`, `{"resources": "` + token + `"}`, `{"resources": [{"generic_secret": {"secret": {"inline_string": "` + token,
		`{"` + token + `": `, `{"resources": [{"generic_secret": {"secret": {"inline_string": [` + `"` + token + `"]}}}]}`,
	} {
		got, err := Secret([]byte(file))
		if got != "" || err == nil {
			t.Errorf("%s: got %q, %v", file, got, err)
		} else if strings.Contains(err.Error(), token[:8]) {
			t.Errorf("%s: the error cites it: %v", file, err)
		}
	}
}
