// Package parameter reads what is kept in SSM's Parameter Store: texts such as
// a CA's certificate, and secrets such as a token.
//
// SSM also passes on secrets of Secrets Manager, by names of the form
// /aws/reference/secretsmanager/NAME, to who may read those.
package parameter

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/smithy-go"
)

// API is what this package needs of the SSM client.
type API interface {
	GetParameter(context.Context, *ssm.GetParameterInput, ...func(*ssm.Options)) (*ssm.GetParameterOutput, error)
}

// Read returns the value of a parameter, deciphered and without the spaces
// around it. Its errors are those of SSM's GetParameter, or that it is empty;
// none has the value in it.
func Read(ctx context.Context, api API, name string) (string, error) {
	out, err := api.GetParameter(ctx, &ssm.GetParameterInput{Name: &name, WithDecryption: aws.Bool(true)})
	if err != nil {
		return "", fmt.Errorf("read SSM parameter %s: %w", name, err)
	}
	value := strings.TrimSpace(aws.ToString(out.Parameter.Value))
	if value == "" {
		return "", fmt.Errorf("read SSM parameter %s: %w", name, ErrEmpty)
	}
	return value, nil
}

// ErrEmpty is returned for a parameter without a value.
var ErrEmpty = errors.New("it is empty")

// Permanent tells whether what SSM answered will be the same at the next attempt:
// it understood the request and refused it, or there is no value. Throttling, and
// credentials that ran out, are not.
func Permanent(err error) bool {
	if errors.Is(err, ErrEmpty) {
		return true
	}
	throttled := retry.ThrottleErrorCode{Codes: retry.DefaultThrottleErrorCodes}
	if throttled.IsErrorThrottle(err) == aws.TrueTernary {
		return false
	}
	var refused smithy.APIError
	if errors.As(err, &refused) && strings.HasPrefix(refused.ErrorCode(), "Expired") {
		return false
	}
	var response *awshttp.ResponseError
	return errors.As(err, &response) && response.HTTPStatusCode() >= 400 && response.HTTPStatusCode() < 500 &&
		response.HTTPStatusCode() != http.StatusTooManyRequests && response.HTTPStatusCode() != http.StatusRequestTimeout
}
