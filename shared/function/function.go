// Package function starts a Lambda function: it reads the configuration from
// the environment, and hands what every function has to the function's own
// wiring. All of it is made once, and kept while Lambda keeps the function warm.
package function

import (
	"errors"
	"io"
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/caarlos0/env/v11"

	"ecsmesh/shared/awsapi"
	"ecsmesh/shared/dryrun"
	"ecsmesh/shared/environment"
	"ecsmesh/shared/invocation"
	"ecsmesh/shared/metrics"
)

// SDKAttempts outlasts a burst of throttling: the limits of AWS's APIs are
// shared by the whole account. The invocation's time bounds them too.
const SDKAttempts = 8

// version is the release's, which its build sets.
var version = "dev"

// Logging is the part of a function's configuration that every one embeds.
type Logging struct {
	LogLevel slog.Level `env:"LOG_LEVEL" envDefault:"INFO" want:"DEBUG, INFO, WARN or ERROR"`
}

func (l Logging) level() slog.Level { return l.LogLevel }

// Config is a function's configuration. It embeds Logging.
type Config interface {
	environment.Config
	level() slog.Level
}

// changing is a configuration that embeds dryrun.Switch, as that of every
// function does that changes anything.
type changing interface{ Dry() bool }

// discreet is a configuration that says whether the function's answer in a dry run
// is to be without its plan, which then only the log has: for somebody who takes
// nothing but the answer.
type discreet interface{ LogsPlan() bool }

// Runtime is what every function has.
type Runtime struct {
	SDK     aws.Config // with a Region
	Log     *slog.Logger
	Metrics *metrics.Writer
	Plan    *dryrun.Plan // what would be changed, where nothing is to be; else nil
}

// Start serves the function's invocations with the handler that wire returns,
// in one of the forms that lambda.Start takes. It doesn't return; where there
// can be no handler, it says why and ends the process.
func Start[C Config, H any](name string, wire func(C, Runtime) H) {
	handler, plan, err := prepare(env.ToMap(os.Environ()), os.Stdout, wire)
	if err != nil {
		invocation.NewLogger(os.Stdout, slog.LevelInfo).Error("start "+name, "error", err)
		os.Exit(1)
	}
	if plan != nil {
		lambda.Start(planned{plan, lambda.NewHandler(handler)})
	}
	lambda.Start(handler)
}

// prepare has both log and metrics written to out. There is a plan where the
// function is to change nothing.
func prepare[C Config, H any](variables map[string]string, out io.Writer, wire func(C, Runtime) H) (handler H, plan *dryrun.Plan, err error) {
	config, err := environment.Parse[C](variables)
	if err != nil {
		return handler, nil, err
	}
	sdk, err := awsapi.FromEnvironment(func(name string) string { return variables[name] }, "")
	if err != nil {
		return handler, nil, err
	}
	if sdk.Region == "" {
		return handler, nil, errors.New("AWS_REGION is not set")
	}
	sdk.RetryMaxAttempts = SDKAttempts
	log := invocation.NewLogger(out, config.level())
	log.Info("starting", "version", version)
	if c, ok := any(config).(changing); ok && c.Dry() {
		plan = dryrun.New(log)
		if d, ok := any(config).(discreet); ok {
			plan.LogOnly = d.LogsPlan()
		}
	}
	return wire(config, Runtime{
		SDK:     sdk,
		Log:     log,
		Metrics: metrics.NewWriter(out, lambdacontext.FunctionName),
		Plan:    plan,
	}), plan, nil
}
