package login

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/hashicorp/consul/api"

	"ecsmesh/shared/awsapi"
)

// The headers of Consul's auth method: one against replays, and those that carry
// the request to IAM in the one to STS.
const (
	serverIDHeader      = "X-Consul-IAM-ServerID"
	entityMethodHeader  = "X-Consul-IAM-GetEntity-Method"
	entityURLHeader     = "X-Consul-IAM-GetEntity-URL"
	entityHeadersHeader = "X-Consul-IAM-GetEntity-Headers"
	entityBodyHeader    = "X-Consul-IAM-GetEntity-Body"
)

// whoAmI is the body of the request to STS.
const whoAmI = "Action=GetCallerIdentity&Version=2011-06-15"

// identityTimeout bounds the question to STS whose credentials these are. It
// ends before an attempt at a Consul server does, or the server would be blamed.
const identityTimeout = 2 * time.Second

// signedRequest is what Consul takes for a bearer token: a request to STS.
type signedRequest struct {
	Method  string `json:"iam_http_request_method"`
	URL     string `json:"iam_request_url"`     // in base64, like the rest
	Headers string `json:"iam_request_headers"` // a JSON object
	Body    string `json:"iam_request_body"`
}

// signer signs the requests of a login.
type signer struct {
	sdk      aws.Config
	iam      *endpoint // nil: AWS's own, of the caller's partition
	entity   bool
	serverID string
	now      func() time.Time

	mu     sync.Mutex
	caller arn.ARN // once it is known; a task's or function's never changes
}

// endpoint is where, and for which Region, a request is signed.
type endpoint struct{ url, region string }

func newSigner(config aws.Config, method Method) *signer {
	s := &signer{sdk: config, entity: method.IncludeEntity, serverID: method.ServerIDHeaderValue, now: time.Now}
	if method.Region != "" {
		s.sdk.Region = method.Region
	}
	if method.STSEndpoint != "" {
		s.sdk.BaseEndpoint, s.sdk.ConfigSources = &method.STSEndpoint, nil
	}
	if config.BaseEndpoint != nil { // of all of AWS: an emulator
		s.iam = &endpoint{*config.BaseEndpoint, s.sdk.Region}
	}
	return s
}

// sign makes the request to STS, and the one to IAM in it.
func (s *signer) sign(ctx context.Context, credentials aws.Credentials) (signedRequest, error) {
	at, err := s.stsEndpoint(ctx)
	if err != nil {
		return signedRequest{}, err
	}
	request, err := s.request(at, whoAmI)
	if err != nil {
		return signedRequest{}, err
	}
	if s.entity {
		if err := s.addEntity(ctx, request, credentials); err != nil {
			return signedRequest{}, err
		}
	}
	if err := awsapi.Sign(ctx, credentials, request, whoAmI, "sts", at.region, s.now()); err != nil {
		return signedRequest{}, err
	}
	return encoded(request, whoAmI)
}

func encoded(request *http.Request, body string) (signedRequest, error) {
	headers, err := json.Marshal(request.Header)
	if err != nil {
		return signedRequest{}, err
	}
	encode := base64.StdEncoding.EncodeToString
	return signedRequest{request.Method, encode([]byte(request.URL.String())), encode(headers), encode([]byte(body))}, nil
}

// addEntity signs a request for the caller's role and puts it into the headers
// of the one to STS.
func (s *signer) addEntity(ctx context.Context, request *http.Request, credentials aws.Credentials) error {
	caller, err := s.identity(ctx)
	if err != nil {
		return err
	}
	role, err := roleName(caller)
	if err != nil {
		return err
	}
	at := s.iam
	if at == nil {
		if at, err = iamEndpoint(caller.Partition); err != nil {
			return err
		}
	}
	body := url.Values{"Action": {"GetRole"}, "RoleName": {role}, "Version": {"2010-05-08"}}.Encode()
	entity, err := s.request(*at, body)
	if err != nil {
		return err
	}
	if err := awsapi.Sign(ctx, credentials, entity, body, "iam", at.region, s.now()); err != nil {
		return err
	}
	headers, err := json.Marshal(entity.Header)
	if err != nil {
		return err
	}
	request.Header.Set(entityMethodHeader, entity.Method)
	request.Header.Set(entityURLHeader, entity.URL.String())
	request.Header.Set(entityHeadersHeader, string(headers))
	request.Header.Set(entityBodyHeader, body)
	return nil
}

// request is one that is still to be signed. The server ID goes into each, and
// so under its signature.
func (s *signer) request(at endpoint, body string) (*http.Request, error) {
	request, err := http.NewRequest(http.MethodPost, at.url, strings.NewReader(body)) // Consul sends it
	if err != nil {
		return nil, err
	}
	if request.URL.Host == "" {
		return nil, fmt.Errorf("the endpoint %q is not a URL, such as https://sts.eu-west-1.amazonaws.com", at.url)
	}
	if request.URL.Path == "" {
		request.URL.Path = "/"
	}
	request.Header.Set("Content-Type", awsapi.Form)
	if s.serverID != "" {
		request.Header.Set(serverIDHeader, s.serverID)
	}
	return request, nil
}

// identity asks STS whose credentials these are.
func (s *signer) identity(ctx context.Context) (arn.ARN, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.caller != (arn.ARN{}) {
		return s.caller, nil
	}
	limit := identityTimeout
	if end, bounded := ctx.Deadline(); bounded {
		limit = min(limit, time.Until(end)/2)
	}
	attempt, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	body, err := awsapi.Do(attempt, s.sdk, awsapi.Request{Service: "sts", ContentType: awsapi.Form, Body: whoAmI})
	if err != nil && attempt.Err() != nil && ctx.Err() == nil {
		return arn.ARN{}, fmt.Errorf("ask STS for the caller's identity: no answer within %s; is there a way from here to STS?", limit.Round(time.Millisecond))
	}
	if code := refusalCode(err); code != "" {
		err = api.StatusError{Code: http.StatusForbidden, Body: "AWS refuses the credentials: " + code}
	}
	if err != nil {
		return arn.ARN{}, fmt.Errorf("ask STS for the caller's identity: %w", err)
	}
	var answer struct {
		ARN string `xml:"GetCallerIdentityResult>Arn"`
	}
	if err := xml.Unmarshal(body, &answer); err != nil {
		return arn.ARN{}, fmt.Errorf("read STS's answer: %w", err)
	}
	if s.caller, err = arn.Parse(answer.ARN); err != nil {
		return arn.ARN{}, fmt.Errorf("read the caller's ARN %q: %w", answer.ARN, err)
	}
	return s.caller, nil
}

// refusalCode is the code of an error by which STS refuses for good, as it does
// credentials that it doesn't know, or that ran out; "" of any other.
func refusalCode(err error) string {
	var refused *awsapi.Error
	if !errors.As(err, &refused) || awsapi.Throttles(refused.Code) {
		return ""
	}
	if refused.Status != http.StatusBadRequest && refused.Status != http.StatusForbidden {
		return ""
	}
	return refused.Code
}

// roleName is the name of a caller's role, without its path:
// arn:aws:sts::111122223333:assumed-role/NAME/SESSION.
func roleName(caller arn.ARN) (string, error) {
	parts := strings.Split(caller.Resource, "/")
	if caller.Service != "sts" || len(parts) != 3 || parts[0] != "assumed-role" {
		return "", fmt.Errorf("the credentials are of %s, want those of a role", caller)
	}
	return parts[1], nil
}

// stsEndpoint is the one that AWS's SDK would ask. Of AWS's names Consul knows
// only those of amazonaws.com, so never the dual-stack ones.
func (s *signer) stsEndpoint(ctx context.Context) (endpoint, error) {
	sdk := s.sdk
	sdk.ConfigSources = append([]any{neverDualStack{}}, sdk.ConfigSources...)
	at, err := awsapi.Endpoint(ctx, sdk, "sts")
	if err != nil {
		return endpoint{}, err
	}
	return endpoint{at, sdk.Region}, nil
}

type neverDualStack struct{}

// GetUseDualStackEndpoint is what a source of AWS's configuration is asked.
func (neverDualStack) GetUseDualStackEndpoint(context.Context) (aws.DualStackEndpointState, bool, error) {
	return aws.DualStackEndpointStateDisabled, true, nil
}

// iamEndpoint is IAM's only one in a partition of AWS; each lies in one Region.
func iamEndpoint(partition string) (*endpoint, error) {
	switch partition {
	case "aws":
		return &endpoint{"https://iam.amazonaws.com", "us-east-1"}, nil
	case "aws-cn":
		return &endpoint{"https://iam.cn-north-1.amazonaws.com.cn", "cn-north-1"}, nil
	case "aws-us-gov":
		return &endpoint{"https://iam.us-gov.amazonaws.com", "us-gov-west-1"}, nil
	}
	return nil, fmt.Errorf("IAM's endpoint in the partition %s is not known here", partition)
}
