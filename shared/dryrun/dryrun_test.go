package dryrun

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
)

func TestSwitch(t *testing.T) {
	for _, test := range []struct {
		Switch
		want bool
	}{
		{Switch{}, false},
		{Switch{Local: true}, true},
		{Switch{DryRun: Off, Local: true}, false},
		{Switch{DryRun: On}, true},
		{Switch{DryRun: Off}, false},
	} {
		if got := test.Dry(); got != test.want {
			t.Errorf("%+v is dry: %t, want %t", test.Switch, got, test.want)
		}
	}
	var mode Mode
	if err := mode.UnmarshalText([]byte("perhaps")); err == nil || !strings.Contains(err.Error(), `"perhaps"`) {
		t.Errorf("got %v, want an error that names the value", err)
	}
}

func TestPlan(t *testing.T) {
	var log bytes.Buffer
	p := New(slog.New(slog.NewTextHandler(&log, nil)))
	p.Would(t.Context(), Step{Action: "drain", What: "node ecs-1", Why: "it stops", Task: "arn:task/1"})
	if err := p.Tolerate(t.Context(), "Consul", errors.New("no\nanswer")); err != nil {
		t.Error(err)
	}
	err := p.Consul().Do(t.Context(), func(ctx context.Context, client *api.Client) error {
		if _, _, err := client.Catalog().Nodes((&api.QueryOptions{}).WithContext(ctx)); err == nil {
			t.Error("a recorder has nodes")
		}
		_, err := client.Catalog().Deregister(&api.CatalogDeregistration{Node: "ecs-1"}, (&api.WriteOptions{}).WithContext(ctx))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Document{
		DryRun:       true,
		Would:        []Step{{Action: "drain", What: "node ecs-1", Why: "it stops", Task: "arn:task/1"}},
		Requests:     []Request{{To: "Consul", Request: "PUT /v1/catalog/deregister", Body: json.RawMessage(`{"Node":"ecs-1"}`)}},
		CouldNotRead: []string{"Consul: no; answer"},
	}
	if diff := cmp.Diff(want, p.Take()); diff != "" {
		t.Errorf("the plan (-want +got):\n%s", diff)
	}
	if again := p.Take(); len(again.Would)+len(again.Requests)+len(again.CouldNotRead) > 0 {
		t.Errorf("the plan is kept: %+v", again)
	}
	for _, line := range []string{`msg="would drain" what="node ecs-1" taskArn=arn:task/1 reason="it stops"`, `msg="could not read Consul; going on without"`} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("the log has no %s:\n%s", line, log.String())
		}
	}
}

// A live function has no plan.
func TestNoPlan(t *testing.T) {
	var p *Plan
	if err := p.Tolerate(t.Context(), "Consul", context.Canceled); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	ctx, cancel := p.Limit(t.Context())
	defer cancel()
	if _, bounded := ctx.Deadline(); bounded {
		t.Error("a live function's time is cut short")
	}
}
