package mesh

import (
	"strings"
	"testing"
)

func TestConsoleURL(t *testing.T) {
	for arn, want := range map[string]string{
		"arn:aws:ecs:eu-west-1:123456789012:task/prod/0a":                             "https://eu-west-1.console.aws.amazon.com/ecs/v2/clusters/prod/tasks/0a?region=eu-west-1",
		"arn:aws-cn:ecs:cn-north-1:123456789012:task/prod/0a":                         "https://cn-north-1.console.amazonaws.cn/ecs/v2/clusters/prod/tasks/0a?region=cn-north-1",
		"arn:aws-us-gov:ecs:us-gov-west-1:123456789012:task/prod/0a":                  "https://us-gov-west-1.console.amazonaws-us-gov.com/ecs/v2/clusters/prod/tasks/0a?region=us-gov-west-1",
		"arn:aws-iso:ecs:us-iso-east-1:123456789012:task/prod/0a":                     "",
		"arn:aws:ecs:eu-west-1:123456789012:task/0a":                                  "", // of old, without the cluster
		"arn:aws:ecs:evil.example/:123456789012:task/prod/0a":                         "",
		"arn:aws:ecs:eu-west-1:123456789012:task/<a>/0a":                              "",
		"arn:aws:ecs:eu-west-1:123456789012:task/" + strings.Repeat("a", 256) + "/0a": "",
	} {
		task, err := ParseTaskARN(arn)
		if err != nil {
			t.Fatal(err)
		}
		if got := task.ConsoleURL(); got != want {
			t.Errorf("%s: got %q, want %q", arn, got, want)
		}
	}
}
