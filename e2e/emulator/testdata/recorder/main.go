// The recorder is the function of the emulator's own tests. It writes each event that it gets as one line to
// the file RECORD, with the emulator's credentials for it, sleeps for SLEEP, fails the SQS messages that have "fail" in them, and tells CloudFormation that
// all went well.
package main

import (
	"encoding/json"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/cfn"
	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
)

func main() { lambda.Start(record) }

func record(event json.RawMessage) (events.SQSEventResponse, error) {
	failures := events.SQSEventResponse{BatchItemFailures: []events.SQSBatchItemFailure{}}
	line, err := json.Marshal(map[string]any{
		"at": time.Now(), "event": event, "endpoint": os.Getenv("AWS_ENDPOINT_URL_ECS"),
		"accessKeyID": os.Getenv("AWS_ACCESS_KEY_ID"), "secretAccessKey": os.Getenv("AWS_SECRET_ACCESS_KEY"), "sessionToken": os.Getenv("AWS_SESSION_TOKEN"),
	})
	if err != nil {
		return failures, err
	}
	file, err := os.OpenFile(os.Getenv("RECORD"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return failures, err
	}
	defer file.Close()
	if _, err := file.Write(append(line, '\n')); err != nil {
		return failures, err
	}
	sleep, err := time.ParseDuration(os.Getenv("SLEEP"))
	if err != nil {
		return failures, err
	}
	time.Sleep(sleep)
	var resource cfn.Event
	if err := json.Unmarshal(event, &resource); err == nil && resource.ResponseURL != "" {
		done := cfn.NewResponse(&resource)
		done.Status, done.PhysicalResourceID, done.Data = cfn.StatusSuccess, "recorded", map[string]any{"Type": resource.RequestType}
		return failures, done.Send()
	}
	var batch events.SQSEvent
	if err := json.Unmarshal(event, &batch); err != nil {
		return failures, err
	}
	for _, message := range batch.Records {
		if strings.Contains(message.Body, "fail") {
			failures.BatchItemFailures = append(failures.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: message.MessageId})
		}
	}
	return failures, nil
}
