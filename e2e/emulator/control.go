package emulator

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
)

// Fault is something that befalls the next calls of one action, whoever makes them.
type Fault struct {
	Action string        // the API's name for it, such as "GetParameter"; an API that speaks JSON, as SSM, SQS and ECS do
	Code   string        // the error's code, such as "ThrottlingException"; empty: the calls succeed
	Status int           // the error's HTTP status; 0: 400
	Times  int           // how many calls it befalls; 0: one; negative: all until ClearFaults
	Delay  time.Duration // how long the calls wait first
}

// Fail makes calls slow, or fail.
func (e *Emulator) Fail(ctx context.Context, f Fault) error {
	if f.Status == 0 {
		f.Status = http.StatusBadRequest
	}
	if f.Times == 0 {
		f.Times = 1
	}
	body, err := json.Marshal(map[string]any{
		"action": f.Action, "code": f.Code, "status": f.Status, "times": f.Times, "delay_seconds": f.Delay.Seconds(),
	})
	if err != nil {
		return fmt.Errorf("make %s fail: %w", f.Action, err)
	}
	if _, err := e.call(ctx, http.MethodPost, "/_test/faults", body); err != nil {
		return fmt.Errorf("make %s fail: %w", f.Action, err)
	}
	return nil
}

// ClearFaults takes back every fault that has not befallen a call yet.
func (e *Emulator) ClearFaults(ctx context.Context) error {
	if _, err := e.call(ctx, http.MethodDelete, "/_test/faults", nil); err != nil {
		return fmt.Errorf("clear faults: %w", err)
	}
	return nil
}

// PutEvent puts an event, in EventBridge's envelope, on the default bus. It plays the AWS service that sends
// the event: unlike with AWS's PutEvents, the source may be AWS's own, and id, time and all else arrive as given.
func (e *Emulator) PutEvent(ctx context.Context, event json.RawMessage) error {
	if _, err := e.call(ctx, http.MethodPost, "/_test/events", event); err != nil {
		return fmt.Errorf("put event: %w", err)
	}
	return nil
}

// The services that run our programs, by the names that a role's trust policy has for them.
const (
	ECS      = "ecs.amazonaws.com"
	ECSTasks = "ecs-tasks.amazonaws.com"
	Lambda   = "lambda.amazonaws.com"
)

// AssumeRole plays a service of AWS that runs a program with a role, and has the temporary credentials that the
// program gets. It is refused for a role that doesn't trust the service.
func (e *Emulator) AssumeRole(ctx context.Context, service, role, session string) (aws.Credentials, error) {
	body, err := json.Marshal(map[string]string{"service": service, "role_arn": role, "session": session})
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("assume role: %w", err)
	}
	answer, err := e.call(ctx, http.MethodPost, "/_test/sessions", body)
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("assume role: %w", err)
	}
	var given struct {
		AccessKeyID     string `json:"access_key_id"`
		SecretAccessKey string `json:"secret_access_key"`
		Token           string `json:"token"`
		Expiration      int64  `json:"expiration"`
	}
	if err := json.Unmarshal(answer, &given); err != nil {
		return aws.Credentials{}, fmt.Errorf("assume role: %w", err)
	}
	return aws.Credentials{
		AccessKeyID: given.AccessKeyID, SecretAccessKey: given.SecretAccessKey, SessionToken: given.Token,
		CanExpire: true, Expires: time.Unix(given.Expiration, 0),
	}, nil
}

// MatchesPattern says whether a rule with this event pattern would get this event, both in JSON. A pattern
// that AWS would refuse is an error.
func (e *Emulator) MatchesPattern(ctx context.Context, pattern, event string) (bool, error) {
	out, err := eventbridge.NewFromConfig(e.Config()).TestEventPattern(ctx, &eventbridge.TestEventPatternInput{
		EventPattern: aws.String(pattern),
		Event:        aws.String(event),
	})
	if err != nil {
		return false, fmt.Errorf("match event pattern: %w", err)
	}
	return out.Result, nil
}

func (e *Emulator) call(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, e.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	return answer, nil
}
