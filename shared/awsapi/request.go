// Package awsapi asks AWS single questions: requests that are signed as the
// clients of AWS's SDK sign theirs, and sent as they send them.
//
// Those clients know all that their services can do, and describe it to
// themselves when a program starts: the one for SSM alone costs 1.5 ms and 0.7 MB,
// in a program that runs every few seconds in each task, for one question.
package awsapi

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// largest is the most that is read of an answer.
const largest = 1 << 20

// Form is the content type of the older services' requests, which they answer
// with XML.
const Form = "application/x-www-form-urlencoded; charset=utf-8"

// Request is a question to one of AWS's services.
type Request struct {
	Service     string // as in its endpoint and in signatures: "ssm"
	Target      string // the operation, of services that take JSON: "AmazonSSM.GetParameter"
	ContentType string
	Body        string
}

// Do returns the answer's body. It asks again when and as often as the SDK's
// clients would with that configuration. AWS's own errors are an *Error.
func Do(ctx context.Context, sdk aws.Config, request Request) ([]byte, error) {
	var retryer aws.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = cmp.Or(sdk.RetryMaxAttempts, o.MaxAttempts)
	})
	if sdk.Retryer != nil {
		retryer = sdk.Retryer()
	}
	var ahead time.Duration // AWS's clock of this one
	for attempt := 1; ; attempt++ {
		body, err := once(ctx, sdk, request, time.Now().Add(ahead))
		if apart := clocksApart(err); apart != 0 && ahead == 0 {
			ahead = apart
			continue
		}
		if err == nil || ctx.Err() != nil || attempt >= retryer.MaxAttempts() || !retryer.IsErrorRetryable(err) {
			return body, err
		}
		pause, hopeless := retryer.RetryDelay(attempt, err)
		if hopeless != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(pause):
		}
	}
}

// clocksApart is by how much the clock is wrong that a request was signed by, as
// far as AWS refuses it for that: it takes five minutes.
func clocksApart(err error) time.Duration {
	const tolerated = 4 * time.Minute
	var refused *Error
	if !errors.As(err, &refused) || refused.at.IsZero() || !slices.Contains(skewed, refused.Code) {
		return 0
	}
	if apart := time.Until(refused.at); apart.Abs() > tolerated {
		return apart
	}
	return 0
}

// skewed are the codes by which services refuse a signature that is too old, or
// of the future.
var skewed = []string{"InvalidSignatureException", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "RequestExpired", "AuthFailure"}

func once(ctx context.Context, sdk aws.Config, r Request, at time.Time) ([]byte, error) {
	endpoint, err := Endpoint(ctx, sdk, r.Service)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(r.Body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", r.ContentType)
	if r.Target != "" {
		request.Header.Set("X-Amz-Target", r.Target)
	}
	credentials, err := Credentials(ctx, sdk)
	if err != nil {
		return nil, err
	}
	if err := Sign(ctx, credentials, request, r.Body, r.Service, sdk.Region, at); err != nil {
		return nil, err
	}
	var client aws.HTTPClient = direct
	if sdk.HTTPClient != nil {
		client = sdk.HTTPClient
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, &sendError{err}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, largest))
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", r.Service, &sendError{err})
	}
	if response.StatusCode != http.StatusOK {
		refused := refusal(r.Service, response.StatusCode, body)
		refused.RequestID = response.Header.Get("X-Amzn-Requestid")
		refused.at, _ = http.ParseTime(response.Header.Get("Date"))
		return nil, refused
	}
	return body, nil
}

// direct follows no redirection: what is signed for one host is no other's.
var direct = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// sendError is what the network did to a request, whatever that is called: a
// connection that the other end closed while a function was frozen is just EOF.
// The SDK's retries would not take that for a reason to ask again, and net/http
// doesn't repeat what it may have sent.
type sendError struct{ error }

func (e *sendError) Unwrap() error { return e.error }

// ConnectionError is what the SDK's retries look at.
func (e *sendError) ConnectionError() bool { return true }

// ErrCredentials marks errors for which nobody gave this process credentials.
var ErrCredentials = errors.New("get AWS credentials")

// Credentials are those to sign with.
func Credentials(ctx context.Context, sdk aws.Config) (aws.Credentials, error) {
	if sdk.Credentials == nil {
		return aws.Credentials{}, fmt.Errorf("%w: the configuration has none", ErrCredentials)
	}
	credentials, err := sdk.Credentials.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("%w: %w", ErrCredentials, err)
	}
	return credentials, nil
}

// Sign signs a request with its body, by AWS's Signature Version 4.
func Sign(ctx context.Context, credentials aws.Credentials, request *http.Request, body, service, region string, at time.Time) error {
	hash := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(ctx, credentials, request, hex.EncodeToString(hash[:]), service, region, at); err != nil {
		return fmt.Errorf("sign a request to %s: %w", service, err)
	}
	return nil
}

// Error is an answer by which a service refuses.
type Error struct {
	Service string
	Status  int    // HTTP
	Code    string // AWS's: "AccessDeniedException"; "" of what is not AWS's answer

	// Message is there of services that answer with JSON. Those that answer with
	// XML may repeat the request, or say, encoded, what only those should read
	// who may decode it.
	Message string

	RequestID string // by which AWS's support finds it

	at time.Time // of the answer, by the service's clock; zero where it says none
}

func (e *Error) Error() string {
	text := strings.TrimSuffix(fmt.Sprintf("%s answered HTTP status %d %s", strings.ToUpper(e.Service), e.Status, e.Code), " ")
	if e.Message != "" {
		text += ": " + e.Message
	}
	if e.RequestID != "" {
		text += " (request " + e.RequestID + ")"
	}
	return text
}

// HTTPStatusCode and ErrorCode are what the SDK's retries look at.
func (e *Error) HTTPStatusCode() int { return e.Status }

// ErrorCode is AWS's; see HTTPStatusCode.
func (e *Error) ErrorCode() string { return e.Code }

// Throttles tells whether an error's code says that a service is asked too
// often, for which many have the status of a refusal: 400.
func Throttles(code string) bool {
	_, ok := retry.DefaultThrottleErrorCodes[code]
	return ok
}

// Permanent tells whether the service will say the same of the next attempt: it
// understood the request and refused it. Throttling, and credentials that ran
// out, for which EC2 has a word of its own, are not.
func Permanent(err error) bool {
	var refused *Error
	return errors.As(err, &refused) && refused.Status >= 400 && refused.Status < 500 && refused.Status != http.StatusRequestTimeout &&
		refused.Status != http.StatusTooManyRequests && !Throttles(refused.Code) && !strings.HasPrefix(refused.Code, "Expired") && refused.Code != "RequestExpired"
}

// refusal reads an error in JSON, or in one of AWS's two forms in XML. A proxy's
// answer may be anything.
func refusal(service string, status int, body []byte) *Error {
	var told struct {
		Type    string `json:"__type" xml:"-"` // perhaps with its namespace: "com.amazonaws.ssm#ParameterNotFound"
		Message string `json:"message" xml:"-"`
		Code    string `json:"-" xml:"Error>Code"`
		EC2Code string `json:"-" xml:"Errors>Error>Code"`
	}
	if json.Unmarshal(body, &told) != nil {
		_ = xml.Unmarshal(body, &told)
	}
	name := told.Type[strings.LastIndex(told.Type, "#")+1:]
	return &Error{Service: service, Status: status, Code: cmp.Or(name, told.Code, told.EC2Code), Message: told.Message}
}
