package lab

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
)

// Sweep invokes the sweep, as its schedule does every five minutes, and returns
// when it is done. payload is its event, such as {"maxDeletes": 12}; "" is {}.
func (l *Lab) Sweep(ctx context.Context, payload string) error {
	if payload == "" {
		payload = "{}"
	}
	_, err := l.invokeSweep(ctx, payload)
	return err
}

// Report asks the sweep what differs between ECS and Consul, and returns its
// answer in JSON; see sweep.Report.
func (l *Lab) Report(ctx context.Context) ([]byte, error) {
	return l.invokeSweep(ctx, `{"report": true}`)
}

func (l *Lab) invokeSweep(ctx context.Context, payload string) ([]byte, error) {
	client := lambda.NewFromConfig(l.Emulator.Config())
	out, err := client.Invoke(ctx, &lambda.InvokeInput{
		FunctionName: aws.String(l.Outputs["SweepFunction"]),
		Payload:      []byte(payload),
	})
	if err != nil {
		return nil, fmt.Errorf("invoke the sweep: %w", err)
	}
	if out.FunctionError != nil {
		return nil, fmt.Errorf("invoke the sweep: %s", out.Payload)
	}
	return out.Payload, nil
}
