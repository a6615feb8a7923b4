package config

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestOutlierDetection(t *testing.T) {
	standard := OutlierDetection{Interval: time.Second, MaxFailures: 1, EnforcingConsecutive5xx: 100, MaxEjectionPercent: 100}
	newer := standard
	newer.Newer = map[string]int{"Consecutive5xx": 5, "ConsecutiveGatewayFailure": 0}
	for fields, want := range map[string]*OutlierDetection{
		`null`:                     nil,
		`{"enabled": false}`:       nil,
		`{"outlierDetection": {}}`: nil,
		`{"enabled": true}`:        &standard,
		`{"enabled": true, "outlierDetection": null}`: &standard,
		`{"enabled": true, "outlierDetection": {"consecutive5xx": 5, "consecutiveGatewayFailure": 0, "enforcingConsecutiveGatewayFailure": null}}`: &newer,
	} {
		cfg, err := Read(env(Variable, `{"consulServers": {"defaults": {"tls": false}}, "service": {"port": 80, "networkResilienceConfig": `+fields+`}}`))
		if err != nil {
			t.Fatalf("%s: %v", fields, err)
		}
		if diff := cmp.Diff(want, cfg.Service.OutlierDetection); diff != "" {
			t.Errorf("%s: %s", fields, diff)
		}
		if warned := len(cfg.Warnings) > 0; warned != (fields == `{"outlierDetection": {}}`) {
			t.Errorf("%s: warnings %q", fields, cfg.Warnings)
		}
	}
}

func TestOutlierDetectionThatCannotBe(t *testing.T) {
	got := faultsOf(t, `"service": {"port": 80, "networkResilienceConfig": {"on": true, "outlierDetection":
		{"interval": 0, "maxFailures": 0, "enforcingConsecutive5xx": 101, "maxEjectionPercent": -1, "baseEjectionTime": "soon", "consecutive5xx": -1, "x": 1}}}`)
	const at = "service.networkResilienceConfig."
	want := []string{at + "on"}
	for _, name := range []string{"interval", "maxFailures", "enforcingConsecutive5xx", "maxEjectionPercent", "baseEjectionTime", "consecutive5xx", "x"} {
		want = append(want, at+"outlierDetection."+name)
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
