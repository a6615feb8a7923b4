package function

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"ecsmesh/shared/metrics"
)

type config struct {
	Logging
	Name string `env:"NAME,required,notEmpty"`
}

// Validate implements environment.Config.
func (c config) Validate() error {
	if c.Name == "nobody" {
		return errors.New("NAME is nobody")
	}
	return nil
}

// greet is the wiring of a function that greets.
func greet(cfg config, lambda Runtime) func() error {
	return func() error {
		lambda.Log.Info("not at this level")
		lambda.Log.Warn("hello "+cfg.Name, "region", lambda.SDK.Region, "attempts", lambda.SDK.RetryMaxAttempts)
		return lambda.Metrics.Write(context.Background(), metrics.Count("Greetings", 1))
	}
}

func TestPrepare(t *testing.T) {
	var out bytes.Buffer
	greeting, plan, err := prepare(map[string]string{"NAME": "web", "AWS_REGION": "eu-west-1", "LOG_LEVEL": slog.LevelWarn.String()}, &out, greet)
	if err != nil {
		t.Fatal(err)
	}
	if plan != nil {
		t.Error("there is a plan, of a function that changes nothing")
	}
	if err := greeting(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], `"message":"hello web","region":"eu-west-1","attempts":8`) || !strings.Contains(lines[1], `"Greetings":1`) {
		t.Errorf("the output is %s", out.String())
	}
}

func TestFunctionThatCannotStart(t *testing.T) {
	for name, test := range map[string]struct{ name, region, want string }{
		"without configuration":      {"", "eu-west-1", "NAME is empty"},
		"with another configuration": {"nobody", "eu-west-1", "NAME is nobody"},
		"without a Region":           {"web", "", "AWS_REGION is not set"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			_, _, err := prepare(map[string]string{"NAME": test.name, "AWS_REGION": test.region}, &out, greet)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error that says %q", err, test.want)
			}
		})
	}
}
