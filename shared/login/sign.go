package login

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/hashicorp/consul/api"
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
	sts      *sts.Client
	options  sts.Options
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
	client := sts.NewFromConfig(config, func(o *sts.Options) {
		if method.Region != "" {
			o.Region = method.Region
		}
		if method.STSEndpoint != "" {
			o.BaseEndpoint = &method.STSEndpoint
		}
	})
	s := &signer{sts: client, options: client.Options(), entity: method.IncludeEntity, serverID: method.ServerIDHeaderValue, now: time.Now}
	if config.BaseEndpoint != nil { // of all of AWS: an emulator
		s.iam = &endpoint{*config.BaseEndpoint, s.options.Region}
	}
	return s
}

// credentials are those to sign with.
func (s *signer) credentials(ctx context.Context) (aws.Credentials, error) {
	credentials, err := s.options.Credentials.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("get AWS credentials: %w", err)
	}
	return credentials, nil
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
	if err := s.signHTTP(ctx, credentials, request, whoAmI, "sts", at.region); err != nil {
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
	if err := s.signHTTP(ctx, credentials, entity, body, "iam", at.region); err != nil {
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
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	if s.serverID != "" {
		request.Header.Set(serverIDHeader, s.serverID)
	}
	return request, nil
}

func (s *signer) signHTTP(ctx context.Context, credentials aws.Credentials, request *http.Request, body, service, region string) error {
	hash := sha256.Sum256([]byte(body))
	err := v4.NewSigner().SignHTTP(ctx, credentials, request, hex.EncodeToString(hash[:]), service, region, s.now())
	if err != nil {
		return fmt.Errorf("sign a request to %s: %w", service, err)
	}
	return nil
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
	out, err := s.sts.GetCallerIdentity(attempt, nil)
	if err != nil && attempt.Err() != nil && ctx.Err() == nil {
		return arn.ARN{}, fmt.Errorf("ask STS for the caller's identity: no answer within %s; is there a way from here to STS?", limit.Round(time.Millisecond))
	}
	if code := refusalCode(err); code != "" {
		err = api.StatusError{Code: http.StatusForbidden, Body: "AWS refuses the credentials: " + code}
	}
	if err != nil {
		return arn.ARN{}, fmt.Errorf("ask STS for the caller's identity: %w", err)
	}
	if s.caller, err = arn.Parse(aws.ToString(out.Arn)); err != nil {
		return arn.ARN{}, fmt.Errorf("read the caller's ARN %q: %w", aws.ToString(out.Arn), err)
	}
	return s.caller, nil
}

// refusalCode is the code of an error by which STS refuses for good, as it does
// credentials that it doesn't know; "" of any other. The rest of the error may
// repeat the request.
func refusalCode(err error) string {
	var response *smithyhttp.ResponseError
	var refusal smithy.APIError
	if !errors.As(err, &response) || !errors.As(err, &refusal) || throttles(refusal.ErrorCode()) {
		return ""
	}
	if status := response.HTTPStatusCode(); status != http.StatusBadRequest && status != http.StatusForbidden {
		return ""
	}
	return refusal.ErrorCode()
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

// stsEndpoint is the one that AWS's SDK would ask.
func (s *signer) stsEndpoint(ctx context.Context) (endpoint, error) {
	if s.options.Region == "" {
		return endpoint{}, errors.New("AWS_REGION is not set, and the configuration names no Region for the login")
	}
	// Of AWS's names Consul knows only those of amazonaws.com, so never the
	// dual-stack ones.
	resolved, err := s.options.EndpointResolverV2.ResolveEndpoint(ctx, sts.EndpointParameters{
		Region:            &s.options.Region,
		Endpoint:          s.options.BaseEndpoint,
		UseFIPS:           aws.Bool(s.options.EndpointOptions.UseFIPSEndpoint == aws.FIPSEndpointStateEnabled),
		UseDualStack:      aws.Bool(false),
		UseGlobalEndpoint: aws.Bool(false),
	})
	if err != nil {
		return endpoint{}, fmt.Errorf("find STS in the Region %s: %w", s.options.Region, err)
	}
	return endpoint{resolved.URI.String(), s.options.Region}, nil
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
