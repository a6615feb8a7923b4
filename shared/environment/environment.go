// Package environment reads a function's configuration from its environment.
package environment

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/caarlos0/env/v11"
)

// Config is a function's configuration.
type Config interface {
	// Validate finds what no variable is to blame for alone. Several faults
	// come joined, each naming its variables.
	Validate() error
}

// Parse makes a T, a struct, of variables, by its fields' tags: env and
// envDefault as the package env has them, and want, which says in words what a
// variable must hold. All faults are reported at once, in one line, each by its
// variable; those that Validate finds, once there are no others.
func Parse[T Config](variables map[string]string) (T, error) {
	var none T
	config, err := env.ParseAsWithOptions[T](env.Options{Environment: variables})
	if err == nil {
		if err := config.Validate(); err != nil {
			return none, fmt.Errorf("read configuration from the environment: %s", strings.ReplaceAll(err.Error(), "\n", "; "))
		}
		return config, nil
	}
	var all env.AggregateError
	if !errors.As(err, &all) {
		return none, fmt.Errorf("read configuration from the environment: %w", err)
	}
	faults := make([]string, len(all.Errors))
	for i, fault := range all.Errors {
		faults[i] = describe(fault, reflect.TypeFor[T](), variables)
	}
	return none, fmt.Errorf("read configuration from the environment: %s", strings.Join(faults, "; "))
}

func describe(fault error, config reflect.Type, variables map[string]string) string {
	var (
		unset   env.VarIsNotSetError
		empty   env.EmptyVarError
		invalid env.ParseError
	)
	switch {
	case errors.As(fault, &unset):
		return unset.Key + " is not set"
	case errors.As(fault, &empty):
		return empty.Key + " is empty"
	case errors.As(fault, &invalid):
		if field, ok := config.FieldByName(invalid.Name); ok {
			name, _, _ := strings.Cut(field.Tag.Get("env"), ",")
			return fmt.Sprintf("%s is %q, want %s", name, variables[name], field.Tag.Get("want"))
		}
	}
	return fault.Error()
}
