package awsapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
)

// at is a configuration of which the server is all of AWS.
func at(url string, retryer aws.Retryer) aws.Config {
	return aws.Config{
		BaseEndpoint: &url, Region: "eu-west-1", Retryer: func() aws.Retryer { return retryer },
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKID", SecretAccessKey: "SECRET", SessionToken: "SESSION"}, nil
		}),
	}
}

func TestRequest(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h := r.Header
		if r.Method != http.MethodPost || r.URL.Path != "/" || string(body) != `{"Name":"a"}` || h.Get("X-Amz-Target") != "AmazonSSM.GetParameter" ||
			h.Get("Content-Type") != "application/x-amz-json-1.1" || h.Get("X-Amz-Security-Token") != "SESSION" {
			t.Errorf("%s %s %v %s", r.Method, r.URL, h, body)
		}
		if signature := h.Get("Authorization"); !strings.Contains(signature, "/eu-west-1/ssm/aws4_request") || !strings.Contains(signature, "x-amz-target") {
			t.Errorf("signed %s", signature)
		}
		fmt.Fprint(w, "the answer")
	}))
	t.Cleanup(server.Close)
	body, err := Do(t.Context(), at(server.URL, aws.NopRetryer{}), Request{Service: "ssm", Target: "AmazonSSM.GetParameter", ContentType: "application/x-amz-json-1.1", Body: `{"Name":"a"}`})
	if err != nil || string(body) != "the answer" {
		t.Errorf("got %q, %v", body, err)
	}
}

func TestRefusals(t *testing.T) {
	for name, test := range map[string]struct {
		status    int
		body      string
		want      string
		permanent bool
	}{
		"no right":              {400, `{"__type":"AccessDeniedException","Message":"User: x is not authorized"}`, "SSM answered HTTP status 400 AccessDeniedException: User: x is not authorized", true},
		"with a namespace":      {400, `{"__type":"com.amazonaws.ssm#ParameterNotFound","message":""}`, "SSM answered HTTP status 400 ParameterNotFound", true},
		"throttled":             {400, `{"__type":"ThrottlingException","message":"Rate exceeded"}`, "400 ThrottlingException: Rate exceeded", false},
		"ran out":               {400, `{"__type":"ExpiredTokenException"}`, "400 ExpiredTokenException", false},
		"the clock is wrong":    {400, `{"__type":"InvalidSignatureException","message":"Signature expired"}`, "InvalidSignatureException: Signature expired", true},
		"EC2":                   {403, "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>encoded</Message></Error></Errors></Response>", "403 UnauthorizedOperation", true},
		"EC2, ran out":          {400, "<Response><Errors><Error><Code>RequestExpired</Code></Error></Errors></Response>", "400 RequestExpired", false},
		"STS":                   {403, "<ErrorResponse><Error><Code>InvalidClientTokenId</Code><Message>repeated</Message></Error></ErrorResponse>", "403 InvalidClientTokenId", true},
		"STS throttles":         {400, "<ErrorResponse><Error><Code>Throttling</Code></Error></ErrorResponse>", "400 Throttling", false},
		"out of order":          {500, `{"__type":"InternalServerError"}`, "500 InternalServerError", false},
		"a proxy's":             {502, "<html>", "SSM answered HTTP status 502", false},
		"nothing":               {503, "", "SSM answered HTTP status 503", false},
		"too many":              {429, "", "SSM answered HTTP status 429", false},
		"not in time":           {408, "", "SSM answered HTTP status 408", false},
		"JSON, but nobody's":    {404, `[]`, "SSM answered HTTP status 404", true},
		"JSON of another shape": {404, `{"__type": 5}`, "SSM answered HTTP status 404", true},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				asked++
				w.Header().Set("X-Amzn-RequestId", "1f")
				w.WriteHeader(test.status)
				fmt.Fprint(w, test.body)
			}))
			t.Cleanup(server.Close)
			_, err := Do(t.Context(), at(server.URL, aws.NopRetryer{}), Request{Service: "ssm"})
			if err == nil || !strings.HasSuffix(err.Error(), test.want+" (request 1f)") {
				t.Errorf("got %v, want %s", err, test.want)
			}
			if Permanent(err) != test.permanent || asked != 1 {
				t.Errorf("permanent is %t after %d requests", Permanent(err), asked)
			}
		})
	}
}

// TestRetries are those of the SDK's clients.
func TestRetries(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		body   string
		want   int // requests
	}{
		"throttled":    {400, `{"__type":"ThrottlingException"}`, 3},
		"out of order": {500, "", 3},
		"refused":      {400, `{"__type":"AccessDeniedException"}`, 1},
	} {
		t.Run(name, func(t *testing.T) {
			asked, answers := 0, 3
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if string(body) != "again" {
					t.Errorf("request %d has the body %q", asked, body)
				}
				if asked++; asked < answers {
					w.WriteHeader(test.status)
					fmt.Fprint(w, test.body)
				}
			}))
			t.Cleanup(server.Close)
			retryer := retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = 4, time.Millisecond })
			_, err := Do(t.Context(), at(server.URL, retryer), Request{Service: "ssm", Body: "again"})
			if asked != test.want || (err == nil) != (test.want == answers) {
				t.Errorf("asked %d times, then %v", asked, err)
			}
			asked, answers = 0, 10
			if _, err := Do(t.Context(), at(server.URL, retryer), Request{Service: "ssm", Body: "again"}); err == nil || asked > 4 {
				t.Errorf("asked %d times, then %v", asked, err)
			}
		})
	}
}

// TestConnectionsThatEnd has a server close the connection on which it is asked,
// as it may one that it has kept for long.
func TestConnectionsThatEnd(t *testing.T) {
	for name, answer := range map[string]string{
		"before the answer": "",
		"within it":         "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nthe",
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if asked++; asked == 2 {
					connection, _, err := http.NewResponseController(w).Hijack()
					if err != nil {
						t.Error(err)
						return
					}
					_, _ = io.WriteString(connection, answer)
					_ = connection.Close()
					return
				}
				fmt.Fprint(w, "the answer")
			}))
			t.Cleanup(server.Close)
			retryer := retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = time.Millisecond })
			for range 2 {
				body, err := Do(t.Context(), at(server.URL, retryer), Request{Service: "ssm", Body: "again"})
				if err != nil || string(body) != "the answer" {
					t.Errorf("got %q, %v", body, err)
				}
			}
			if asked != 3 {
				t.Errorf("asked %d times, want 3", asked)
			}
		})
	}
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		time.AfterFunc(10*time.Millisecond, cancel)
	}))
	t.Cleanup(server.Close)
	forever := retry.NewStandard(func(o *retry.StandardOptions) {
		o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return time.Hour, nil })
	})
	var refused *Error
	if _, err := Do(ctx, at(server.URL, forever), Request{Service: "ssm"}); !errors.As(err, &refused) {
		t.Errorf("got %v, want what SSM said", err)
	}
}

func TestWithoutCredentials(t *testing.T) {
	sdk := at("http://127.0.0.1:1", aws.NopRetryer{})
	sdk.Credentials = nil
	if _, err := Do(t.Context(), sdk, Request{Service: "ssm"}); err == nil || !strings.Contains(err.Error(), "get AWS credentials") {
		t.Error(err)
	}
}

// TestTheClockIsWrong has AWS's be an hour ahead, and say so with each answer.
func TestTheClockIsWrong(t *testing.T) {
	requests := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests++
		now := time.Now().Add(time.Hour)
		w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
		signed, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
		if err != nil || now.Sub(signed).Abs() > 5*time.Minute {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"__type":"InvalidSignatureException","message":"Signature expired"}`)
			return
		}
		fmt.Fprint(w, "the answer")
	}))
	t.Cleanup(server.Close)
	body, err := Do(t.Context(), at(server.URL, aws.NopRetryer{}), Request{Service: "ssm"})
	if err != nil || string(body) != "the answer" || requests != 2 {
		t.Errorf("got %q, %v after %d requests", body, err, requests)
	}
}

// TestNoRedirectionIsFollowed keeps what is signed for one host from another.
func TestNoRedirectionIsFollowed(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the other host was asked") }))
	t.Cleanup(other.Close)
	server := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusFound))
	t.Cleanup(server.Close)
	_, err := Do(t.Context(), at(server.URL, aws.NopRetryer{}), Request{Service: "ssm"})
	var refused *Error
	if !errors.As(err, &refused) || refused.Status != http.StatusFound {
		t.Errorf("got %v", err)
	}
}
