// Package parameter reads and writes what is kept in SSM's Parameter Store:
// texts such as a CA's certificate, and secrets such as a token.
//
// SSM also passes on secrets of Secrets Manager, by names of the form
// /aws/reference/secretsmanager/NAME, to who may read those.
package parameter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"

	"ecsmesh/shared/awsapi"
)

// Store is the Parameter Store of an account in a Region.
type Store struct{ sdk aws.Config }

// NewStore returns the one that an AWS configuration names, with its retries.
func NewStore(sdk aws.Config) *Store { return &Store{sdk} }

// Get returns a parameter's value, deciphered. It returns ErrNotFound where
// there is no such parameter; other refusals are an *awsapi.Error. None has the
// value in it.
func (s *Store) Get(ctx context.Context, name string) (string, error) {
	var found struct{ Parameter struct{ Value string } }
	err := s.call(ctx, "GetParameter", map[string]any{"Name": name, "WithDecryption": true}, &found)
	var refused *awsapi.Error
	if errors.As(err, &refused) && refused.Code == "ParameterNotFound" {
		err = fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return found.Parameter.Value, err
}

// PutList replaces, or makes, a parameter of type StringList.
func (s *Store) PutList(ctx context.Context, name, value, description string) error {
	return s.call(ctx, "PutParameter", List(name, value, description), &struct{}{})
}

// List is what PutList asks of SSM.
func List(name, value, description string) map[string]any {
	return map[string]any{"Name": name, "Value": value, "Type": "StringList", "Overwrite": true, "Description": description}
}

func (s *Store) call(ctx context.Context, operation string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	answer, err := awsapi.Do(ctx, s.sdk, awsapi.Request{
		Service: "ssm", Target: "AmazonSSM." + operation, ContentType: "application/x-amz-json-1.1", Body: string(body),
	})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("read the answer of SSM, which is not JSON: %w", err)
	}
	return nil
}

// Getter is the part of a Store that Read needs.
type Getter interface {
	Get(ctx context.Context, name string) (string, error)
}

// Read returns the value of a parameter without the spaces around it. Its errors
// are those of Get, or that it is empty.
func Read(ctx context.Context, store Getter, name string) (string, error) {
	value, err := store.Get(ctx, name)
	if value = strings.TrimSpace(value); err == nil && value == "" {
		err = ErrEmpty
	}
	if err != nil {
		return "", fmt.Errorf("read SSM parameter %s: %w", name, err)
	}
	return value, nil
}

var (
	// ErrNotFound is returned for a parameter that doesn't exist.
	ErrNotFound = errors.New("there is no such parameter")

	// ErrEmpty is returned for a parameter without a value.
	ErrEmpty = errors.New("it is empty")
)

// Permanent tells whether what SSM answered will be the same at the next attempt:
// it refused for good, or there is no value.
func Permanent(err error) bool { return errors.Is(err, ErrEmpty) || awsapi.Permanent(err) }
