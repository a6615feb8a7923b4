package mesh

import (
	"regexp"
	"strings"
	"testing"
)

// safe is a task's ID that may become part of a node's name and of filters.
var safe = regexp.MustCompile("^[0-9A-Za-z-]+$")

func FuzzParseTaskARN(f *testing.F) {
	for _, arn := range []string{
		"arn:aws:ecs:eu-west-1:123456789012:task/prod/0f2ff1f7f2c24a4f8f9b7cc1b0cbf1f7",
		"arn:aws:ecs:eu-west-1:123456789012:task/1a2b3c4d-5e6f-7081-92a3-b4c5d6e7f809",
		"arn:aws-cn:ecs:cn-north-1:1:task/a/b", "arn:aws:ecs:::task/x", "arn:aws:ecs:r:a:task/c/id:more",
		"arn:aws:ecs:r:a:task//id", "arn:aws:ecs:r:a:service/c/id", "arn:aws:ecs:r:a:task/c/\"; or", "",
	} {
		f.Add(arn)
	}
	f.Fuzz(func(t *testing.T, arn string) {
		task, err := ParseTaskARN(arn)
		if err != nil {
			return
		}
		if !safe.MatchString(task.ID) {
			t.Errorf("the task's ID is %q", task.ID)
		}
		path := "task/" + task.Cluster + "/" + task.ID
		if task.Cluster == "" {
			path = "task/" + task.ID
		}
		again, err := ParseTaskARN(strings.Join([]string{"arn", task.Partition, "ecs", task.Region, task.Account, path}, ":"))
		if err != nil || again != task {
			t.Errorf("%+v, put together again, is %+v, %v", task, again, err)
		}
	})
}
