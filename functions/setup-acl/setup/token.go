package setup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

// secrets is Secrets Manager.
type secrets interface {
	GetSecretValue(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error)
}

// managementToken reads the token that may write ACLs. No error has any of it.
func managementToken(ctx context.Context, secrets secrets, arn string) (string, error) {
	secret, err := secrets.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &arn})
	if err != nil {
		return "", fmt.Errorf("read the management token: %w", err)
	}
	token, err := parseToken(aws.ToString(secret.SecretString))
	if err != nil {
		return "", fmt.Errorf("read the management token in %s: %w", arn, err)
	}
	return token, nil
}

// parseToken takes a token as it is, and what `consul acl bootstrap -format=json`
// prints.
func parseToken(text string) (string, error) {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "{") {
		var printed struct{ SecretID string }
		if json.Unmarshal([]byte(text), &printed) != nil { // whose error shows some of it
			return "", errors.New("it begins as JSON does, and is none")
		}
		if text = printed.SecretID; text == "" {
			return "", errors.New(`it is JSON without a "SecretID"`)
		}
	}
	if text == "" {
		return "", errors.New("it is empty; put the token there, or what `consul acl bootstrap -format=json` prints")
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", errors.New("it is more than a token: want the token alone, or what `consul acl bootstrap -format=json` prints")
	}
	return text, nil
}
