package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"ecsmesh/e2e/emulator"
)

// keepSecret makes a secret in Secrets Manager.
func (l *Lab) keepSecret(ctx context.Context, name, value string) (arn string, err error) {
	out, err := secretsmanager.NewFromConfig(l.Emulator.Config()).CreateSecret(ctx, &secretsmanager.CreateSecretInput{
		Name: aws.String(name), SecretString: aws.String(value),
	})
	if err != nil {
		return "", fmt.Errorf("keep the secret %s: %w", name, err)
	}
	return aws.ToString(out.ARN), nil
}

// secret reads one as ECS does for a task, with the rights of its execution
// role, or as the account's owner. The ARN is a secret's or an SSM parameter's.
func (l *Lab) secret(ctx context.Context, role, arn string) (string, error) {
	config := l.Emulator.Config()
	if role != "" {
		given, err := l.Emulator.AssumeRole(ctx, emulator.ECSTasks, role, "secrets")
		if err != nil {
			return "", err
		}
		config = l.Emulator.ConfigAs(given)
	}
	if _, name, ok := strings.Cut(arn, ":parameter"); ok {
		out, err := ssm.NewFromConfig(config).GetParameters(ctx, &ssm.GetParametersInput{Names: []string{name}, WithDecryption: aws.Bool(true)})
		if err == nil && len(out.Parameters) == 0 {
			err = errors.New("there is none")
		}
		if err != nil {
			return "", fmt.Errorf("read the parameter %s: %w", name, err)
		}
		return aws.ToString(out.Parameters[0].Value), nil
	}
	out, err := secretsmanager.NewFromConfig(config).GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: aws.String(arn)})
	if err != nil {
		return "", fmt.Errorf("read the secret %s: %w", arn, err)
	}
	return aws.ToString(out.SecretString), nil
}

// gossipKey is the ARN of the secret that the servers' stack made.
func (l *Lab) gossipKey() string {
	l.stacks.Lock()
	defer l.stacks.Unlock()
	return l.gossipKeyARN
}
