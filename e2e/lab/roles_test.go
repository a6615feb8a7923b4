package lab_test

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	awsecs "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"

	"ecsmesh/e2e/emulator"
	"ecsmesh/e2e/lab"
)

// rolesAreLimited has every role do what any of them may, and more. In ECS,
// only the cluster of Consul's servers is anybody's business.
func (s *secure) rolesAreLimited(t *testing.T) {
	ctx := t.Context()
	root := s.Emulator.Config()
	_, err := ssm.NewFromConfig(root).PutParameter(ctx, &ssm.PutParameterInput{
		Name: aws.String("/others"), Value: aws.String("theirs"), Type: types.ParameterTypeString,
	})
	must(t, err)
	_, err = secretsmanager.NewFromConfig(root).CreateSecret(ctx, &secretsmanager.CreateSecretInput{
		Name: aws.String("others"), SecretString: aws.String("theirs"),
	})
	must(t, err)
	list, err := s.ServerList(ctx)
	must(t, err)
	task := s.web.TaskARN
	deeds := map[string]func(aws.Config) error{
		"read the list": func(c aws.Config) error { return read(ctx, c, lab.ServersParameter) },
		"write the list": func(c aws.Config) error {
			var texts []string
			for _, addr := range list {
				texts = append(texts, addr.String())
			}
			_, err := ssm.NewFromConfig(c).PutParameter(ctx, &ssm.PutParameterInput{
				Name: aws.String(lab.ServersParameter), Value: aws.String(strings.Join(texts, ",")), Type: types.ParameterTypeStringList, Overwrite: aws.Bool(true),
			})
			return err
		},
		"read the CA":               func(c aws.Config) error { return read(ctx, c, lab.CAParameter) },
		"read another parameter":    func(c aws.Config) error { return read(ctx, c, "/others") },
		"read the management token": func(c aws.Config) error { return secret(ctx, c, lab.ManagementSecret) },
		"read another secret":       func(c aws.Config) error { return secret(ctx, c, "others") },
		"list the servers' tasks":   func(c aws.Config) error { return listTasks(ctx, c, lab.ConsulCluster) },
		"list other tasks":          func(c aws.Config) error { return listTasks(ctx, c, lab.MeshCluster) },
		"describe a mesh task": func(c aws.Config) error {
			_, err := awsecs.NewFromConfig(c).DescribeTasks(ctx, &awsecs.DescribeTasksInput{Cluster: aws.String(lab.MeshCluster), Tasks: []string{task}})
			return err
		},
		"stop a task": func(c aws.Config) error {
			_, err := awsecs.NewFromConfig(c).StopTask(ctx, &awsecs.StopTaskInput{Cluster: aws.String(lab.MeshCluster), Task: aws.String(task)})
			return err
		},
		"look at the queue": func(c aws.Config) error { return queue(ctx, c, s.Outputs["TaskEventsQueueUrl"]) },
		"look at the dead-letter queue": func(c aws.Config) error {
			return queue(ctx, c, s.Outputs["TaskEventsDeadLetterQueueUrl"])
		},
		"send a message": func(c aws.Config) error {
			_, err := sqs.NewFromConfig(c).SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: aws.String(s.Outputs["TaskEventsQueueUrl"]), MessageBody: aws.String("{}")})
			return err
		},
		"invoke a function": func(c aws.Config) error {
			_, err := lambda.NewFromConfig(c).Invoke(ctx, &lambda.InvokeInput{FunctionName: aws.String(s.Outputs["SweepFunction"]), Payload: []byte("{}")})
			return err
		},
		"change a function": func(c aws.Config) error {
			_, err := lambda.NewFromConfig(c).UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String(s.Outputs["SweepFunction"])})
			return err
		},
		"see the stack": func(c aws.Config) error {
			_, err := cloudformation.NewFromConfig(c).DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: aws.String(lab.Stack)})
			return err
		},
		"list the buckets": func(c aws.Config) error {
			_, err := s3.NewFromConfig(c, func(o *s3.Options) { o.UsePathStyle = true }).ListBuckets(ctx, &s3.ListBucketsInput{})
			return err
		},
	}
	for function, may := range map[string][]string{
		"PublishServersFunction":  {"list the servers' tasks", "read the list", "write the list"},
		"DeregisterTasksFunction": {"look at the queue", "read the CA", "read the list"},
		"SweepFunction":           {"describe a mesh task", "list other tasks", "list the servers' tasks", "read the CA", "read the list", "write the list"},
		"SetupAclFunction":        {"list the servers' tasks", "read the CA", "read the management token"},
	} {
		credentials, err := s.Emulator.AssumeRole(ctx, emulator.Lambda, s.roleOf(t, function), "test")
		must(t, err)
		as := s.Emulator.ConfigAs(credentials)
		as.RetryMaxAttempts = 1
		var does []string
		for _, what := range slices.Sorted(maps.Keys(deeds)) {
			err := deeds[what](as)
			switch {
			case err == nil:
				does = append(does, what)
			case !denied(err):
				t.Errorf("%s: %s: neither done nor denied: %v", function, what, err)
			}
		}
		if diff := cmp.Diff(may, does); diff != "" {
			t.Errorf("%s (-may +does):\n%s", function, diff)
		}
	}
}

// denied tells whether IAM refused. The emulator may close the connection before
// all of its words were read; the status came first.
func denied(err error) bool {
	var refused smithy.APIError
	var answered interface{ HTTPStatusCode() int }
	return errors.As(err, &refused) && strings.Contains(refused.ErrorCode(), "AccessDenied") ||
		errors.As(err, &answered) && answered.HTTPStatusCode() == http.StatusForbidden
}

// roleOf is the ARN of a function's role.
func (s *secure) roleOf(t *testing.T, function string) string {
	t.Helper()
	resource, err := cloudformation.NewFromConfig(s.Emulator.Config()).DescribeStackResource(t.Context(), &cloudformation.DescribeStackResourceInput{
		StackName: aws.String(lab.Stack), LogicalResourceId: aws.String(function),
	})
	must(t, err)
	configuration, err := lambda.NewFromConfig(s.Emulator.Config()).GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{
		FunctionName: resource.StackResourceDetail.PhysicalResourceId,
	})
	must(t, err)
	return aws.ToString(configuration.Role)
}

func read(ctx context.Context, config aws.Config, name string) error {
	_, err := ssm.NewFromConfig(config).GetParameter(ctx, &ssm.GetParameterInput{Name: aws.String(name)})
	return err
}

func secret(ctx context.Context, config aws.Config, name string) error {
	_, err := secretsmanager.NewFromConfig(config).GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: aws.String(name)})
	return err
}

func listTasks(ctx context.Context, config aws.Config, cluster string) error {
	_, err := awsecs.NewFromConfig(config).ListTasks(ctx, &awsecs.ListTasksInput{Cluster: aws.String(cluster)})
	return err
}

func queue(ctx context.Context, config aws.Config, url string) error {
	_, err := sqs.NewFromConfig(config).GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: aws.String(url)})
	return err
}
