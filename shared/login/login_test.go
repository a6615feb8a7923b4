package login

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"ecsmesh/shared/consul"
)

func TestTokensAreRenewedAtHalfOfTheirLife(t *testing.T) {
	created := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	if got := (Token{Created: created, Expires: created.Add(time.Hour)}).RenewAt(); !got.Equal(created.Add(30 * time.Minute)) {
		t.Errorf("a token of an hour is to be renewed at %s", got)
	}
	if got := (Token{Created: created}).RenewAt(); !got.IsZero() {
		t.Errorf("a token without an end is to be renewed at %s", got)
	}
}

// TestWhereRequestsGo signs in each partition of AWS and looks at what Consul
// would send where.
func TestWhereRequestsGo(t *testing.T) {
	for region, test := range map[string]struct{ partition, sts, iam, iamRegion string }{
		"eu-west-1":      {"aws", "https://sts.eu-west-1.amazonaws.com/", "https://iam.amazonaws.com/", "us-east-1"},
		"us-east-1":      {"aws", "https://sts.us-east-1.amazonaws.com/", "https://iam.amazonaws.com/", "us-east-1"},
		"cn-northwest-1": {"aws-cn", "https://sts.cn-northwest-1.amazonaws.com.cn/", "https://iam.cn-north-1.amazonaws.com.cn/", "cn-north-1"},
		"us-gov-east-1":  {"aws-us-gov", "https://sts.us-gov-east-1.amazonaws.com/", "https://iam.us-gov.amazonaws.com/", "us-gov-west-1"},
	} {
		s := newSigner(aws.Config{Region: "eu-central-1", Credentials: fixed}, Method{IncludeEntity: true, Region: region, ServerIDHeaderValue: "here"})
		s.caller.Partition, s.caller.Service, s.caller.Resource = test.partition, "sts", "assumed-role/web/session"
		signed, err := s.sign(t.Context(), fixed.Value)
		if err != nil {
			t.Errorf("%s: %v", region, err)
			continue
		}
		h := headers(t, signed)
		var entity http.Header
		if err := json.Unmarshal([]byte(h.Get(entityHeadersHeader)), &entity); err != nil {
			t.Fatal(err)
		}
		got := []string{decode(t, signed.URL), scope(h), h.Get(entityURLHeader), scope(entity)}
		want := []string{test.sts, region + "/sts", test.iam, test.iamRegion + "/iam"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", region, diff)
		}
		for service, header := range map[string]http.Header{"STS": h, "IAM": entity} {
			if header.Get(serverIDHeader) != "here" || !slices.Contains(signedHeaders(header), "x-consul-iam-serverid") {
				t.Errorf("%s: the request to %s is not bound to the cluster: %v", region, service, signedHeaders(header))
			}
		}
		if body := h.Get(entityBodyHeader); body != "Action=GetRole&RoleName=web&Version=2010-05-08" {
			t.Errorf("%s: IAM is asked for %s", region, body)
		}
	}
}

func TestWhereSTSIsIsConfigurable(t *testing.T) {
	s := newSigner(aws.Config{Region: "eu-west-1", Credentials: fixed}, Method{STSEndpoint: "https://sts.eu-west-1.vpce.example"})
	signed, err := s.sign(t.Context(), fixed.Value)
	if err != nil {
		t.Fatal(err)
	}
	if got := decode(t, signed.URL); got != "https://sts.eu-west-1.vpce.example/" {
		t.Errorf("STS is asked at %s", got)
	}
}

// TestWhatCanNotBeSigned has no Consul, since nothing gets that far.
func TestWhatCanNotBeSigned(t *testing.T) {
	answers := func(arn string) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/xml")
			fmt.Fprintf(w, "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>%s</Arn></GetCallerIdentityResult></GetCallerIdentityResponse>", arn)
		}))
		t.Cleanup(server.Close)
		return server.URL
	}
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then is it noticed that the caller goes
		<-r.Context().Done()
	}))
	defer silent.Close()
	none := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, errors.New("there are none") })
	for name, test := range map[string]struct {
		config aws.Config
		method Method
		want   string
	}{
		"no Region":      {aws.Config{Credentials: fixed}, Method{}, "AWS_REGION is not set"},
		"no credentials": {aws.Config{Region: "eu-west-1", Credentials: none}, Method{}, "get AWS credentials: there are none"},
		"no URL of STS":  {aws.Config{Region: "eu-west-1", Credentials: fixed}, Method{STSEndpoint: "sts.eu-west-1.amazonaws.com"}, `"sts.eu-west-1.amazonaws.com" is not a URL`},
		"a user": {aws.Config{Region: "eu-west-1", Credentials: fixed}, Method{IncludeEntity: true, STSEndpoint: answers("arn:aws:iam::111122223333:user/me")},
			"the credentials are of arn:aws:iam::111122223333:user/me, want those of a role"},
		"a partition without a known IAM": {aws.Config{Region: "eu-west-1", Credentials: fixed}, Method{IncludeEntity: true, STSEndpoint: answers("arn:aws-iso:sts::111122223333:assumed-role/web/session")},
			"the partition aws-iso"},
		"a silent STS": {aws.Config{Region: "eu-west-1", Credentials: fixed}, Method{IncludeEntity: true, STSEndpoint: silent.URL}, "no answer within 2s; is there a way from here to STS?"},
	} {
		test.method.AuthMethod = "tasks"
		_, err := New(test.config, test.method).Login(t.Context(), nil)
		if err == nil || !strings.HasPrefix(err.Error(), "log in by the auth method tasks: ") || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

// TestATaskAsksABusySTSAgain has an STS in trouble, or one that throttles, which
// has the status of a refusal.
func TestATaskAsksABusySTSAgain(t *testing.T) {
	for code, status := range map[string]int{"Throttling": http.StatusBadRequest, "ServiceUnavailable": http.StatusServiceUnavailable} {
		t.Run(code, func(t *testing.T) {
			sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/xml")
				w.WriteHeader(status)
				fmt.Fprintf(w, "<ErrorResponse><Error><Code>%s</Code><Message>later</Message></Error></ErrorResponse>", code)
			}))
			defer sts.Close()
			once := aws.Config{Region: "eu-west-1", Credentials: fixed, Retryer: func() aws.Retryer { return aws.NopRetryer{} }}
			_, err := New(once, Method{IncludeEntity: true, STSEndpoint: sts.URL}).Login(t.Context(), nil)
			if err == nil || consul.Permanent(err) || !strings.Contains(err.Error(), code) {
				t.Errorf("%v, want what may pass", err)
			}
		})
	}
}

// TestConsulsAnswers has those that a real Consul gives too rarely.
func TestConsulsAnswers(t *testing.T) {
	for body, want := range map[string]api.StatusError{
		"rpc error: no cluster leader":            {Code: 500, Body: "rpc error: no cluster leader"},
		"error making request: dial tcp: timeout": {Code: 500, Body: "error making request: dial tcp: timeout"},
		"received error code 503: busy":           {Code: 500, Body: "received error code 503: busy"},
		"received error code 400: <Code>Throttling</Code>": {
			Code: 500, Body: "received error code 400: <Code>Throttling</Code>"},
		"received error code 403: the request had x-amz-security-token:" + fixed.Value.SessionToken: {
			Code: 403, Body: "received error code 403: the request had x-amz-security-token:(session token)"},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, body, http.StatusInternalServerError)
		}))
		client, err := api.NewClient(&api.Config{Address: server.URL})
		if err != nil {
			t.Fatal(err)
		}
		_, err = New(aws.Config{Region: "eu-west-1", Credentials: fixed}, Method{AuthMethod: "tasks"}).Login(t.Context(), client)
		server.Close()
		var got api.StatusError
		if !errors.As(err, &got) {
			t.Errorf("%s: %v, want Consul's answer", body, err)
			continue
		}
		got.Body = strings.TrimSpace(got.Body)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", body, diff)
		}
	}
}

var fixed = credentials.NewStaticCredentialsProvider("ASIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI", "FwoGZXIvYXdzEXAMPLE")

func decode(t *testing.T, text string) string {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// scope is the Region and service for which a request was signed.
func scope(h http.Header) string {
	_, credential, _ := strings.Cut(h.Get("Authorization"), "Credential=")
	parts := strings.Split(credential, "/") // key/date/region/service/aws4_request
	return parts[2] + "/" + parts[3]
}

func signedHeaders(h http.Header) []string {
	_, names, _ := strings.Cut(h.Get("Authorization"), "SignedHeaders=")
	names, _, _ = strings.Cut(names, ",")
	return strings.Split(names, ";")
}
