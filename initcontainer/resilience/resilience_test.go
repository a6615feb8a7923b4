package resilience

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/consultest"
	"ecsmesh/initcontainer/config"
	"ecsmesh/shared/consul"
)

var wanted = config.OutlierDetection{Interval: 2 * time.Second, MaxFailures: 3, EnforcingConsecutive5xx: 0, MaxEjectionPercent: 50, BaseEjectionTime: time.Minute}

// stored is the service-defaults of the service api, without what Consul counts and hashes.
func stored(t *testing.T, client *api.Client) (fields map[string]any, index uint64) {
	t.Helper()
	found, err := read(t.Context(), client, "api")
	if err != nil {
		t.Fatal(err)
	}
	content, err := json.Marshal(found)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, &fields); err != nil {
		t.Fatal(err)
	}
	for _, ofConsul := range []string{"CreateIndex", "ModifyIndex", "Hash"} {
		delete(fields, ofConsul)
	}
	return fields, found.ModifyIndex
}

func write(t *testing.T, client *api.Client, wanted config.OutlierDetection) (changed bool) {
	t.Helper()
	changed, err := Write(t.Context(), client, "api", wanted)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

func TestAnEntryIsMade(t *testing.T) {
	client := consultest.Start(t).Client
	if !write(t, client, wanted) {
		t.Error("nothing was changed")
	}
	got, index := stored(t, client)
	check := got["UpstreamConfig"].(object)["Defaults"].(object)["PassiveHealthCheck"]
	want := object{"Interval": float64(2 * time.Second), "MaxFailures": 3.0, "EnforcingConsecutive5xx": 0.0, "MaxEjectionPercent": 50.0, "BaseEjectionTime": float64(time.Minute)}
	if diff := cmp.Diff(want, check); diff != "" {
		t.Error(diff)
	}
	if write(t, client, wanted) {
		t.Error("what is the same was changed")
	}
	if _, again := stored(t, client); again != index {
		t.Error("what is the same was written")
	}
	another := wanted
	another.MaxFailures = 4
	if !write(t, client, another) {
		t.Error("another number was not written")
	}
}

// TestWhatOthersSetStays has an entry with all kinds of settings.
func TestWhatOthersSetStays(t *testing.T) {
	client := consultest.Start(t).Client
	theirs := json.RawMessage(`{"Kind": "service-defaults", "Name": "api", "Protocol": "http", "Meta": {"owner": "them"}, "MaxInboundConnections": 12345,
		"MutualTLSMode": "strict", "BalanceInboundConnections": "exact_balance", "TransparentProxy": {"DialedDirectly": true}, "MeshGateway": {"Mode": "local"},
		"Expose": {"Paths": [{"Path": "/metrics", "ListenerPort": 21500, "LocalPathPort": 8080, "Protocol": "http"}]},
		"EnvoyExtensions": [{"Name": "builtin/lua", "Arguments": {"ProxyType": "connect-proxy", "Listener": "inbound", "Script": "function envoy_on_request(h) end"}}],
		"UpstreamConfig": {"Overrides": [{"Name": "db", "ConnectTimeoutMs": 1234, "PassiveHealthCheck": {"MaxFailures": 9, "Interval": "7s"}}],
			"Defaults": {"Limits": {"MaxConnections": 7}, "PassiveHealthCheck": {"MaxFailures": 8, "Interval": "9s", "BaseEjectionTime": "45s"}}}}`)
	if _, err := client.Raw().Write("/v1/config", theirs, nil, nil); err != nil {
		t.Fatal(err)
	}
	want, _ := stored(t, client)
	check := inner(inner(inner(want, "UpstreamConfig"), "Defaults"), "PassiveHealthCheck")
	check["Interval"], check["MaxFailures"], check["EnforcingConsecutive5xx"], check["MaxEjectionPercent"] = float64(2*time.Second), 3.0, 0.0, 50.0
	unsaid := wanted
	unsaid.BaseEjectionTime = 0
	if !write(t, client, unsaid) {
		t.Error("nothing was changed")
	}
	got, _ := stored(t, client)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestWhatOnlyTheServerKnowsStays has a server of a later version, by its answers.
func TestWhatOnlyTheServerKnowsStays(t *testing.T) {
	const theirs = `"RateLimits":{"InstanceLevel":{"RequestsPerSecond":9007199254740993}}`
	var written atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			body, _ := io.ReadAll(r.Body)
			written.Store(r.URL.RawQuery + string(body))
			fmt.Fprint(w, "true")
			return
		}
		fmt.Fprintf(w, `{"Kind":"service-defaults","Name":"api",%s,"UpstreamConfig":null,"CreateIndex":7,"ModifyIndex":9}`, theirs)
	}))
	t.Cleanup(server.Close)
	client, err := api.NewClient(&api.Config{Address: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	newer := wanted
	newer.Newer = map[string]int{"Consecutive5xx": 5}
	if !write(t, client, newer) {
		t.Error("nothing was changed")
	}
	if got, _ := written.Load().(string); !strings.HasPrefix(got, "cas=9{") || !strings.Contains(got, theirs) || !strings.Contains(got, `"Consecutive5xx":5`) {
		t.Errorf("it wrote %s", got)
	}
}

// TestTasksThatStartTogether write the same at the same time, while somebody
// else changes something else, again and again.
func TestTasksThatStartTogether(t *testing.T) {
	client := consultest.Start(t).Client
	last := ""
	change := func(n int) {
		found, err := read(t.Context(), client, "api")
		if err != nil {
			t.Error(err)
			return
		}
		found.fields["Meta"] = object{"change": fmt.Sprint(n)}
		written, _, err := client.ConfigEntries().CAS(found, found.ModifyIndex, nil)
		if err != nil {
			t.Error(err)
		}
		if written {
			last = fmt.Sprint(n)
		}
	}
	change(0)
	var others, tasks sync.WaitGroup
	done := make(chan struct{})
	others.Go(func() {
		for n := 1; ; n++ {
			change(n)
			select {
			case <-done:
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	})
	for range 20 {
		tasks.Go(func() {
			if _, err := Write(t.Context(), client, "api", wanted); err != nil {
				t.Error(err)
			}
		})
	}
	tasks.Wait()
	close(done)
	others.Wait()
	got, _ := stored(t, client)
	if diff := cmp.Diff(object{"change": last}, got["Meta"]); diff != "" {
		t.Errorf("a change was lost: %s", diff)
	}
	if write(t, client, wanted) {
		t.Error("outlier detection was lost")
	}
}

// TestTheRightToOnesOwnSettings is that of a service identity.
func TestTheRightToOnesOwnSettings(t *testing.T) {
	server := consultest.StartSecure(t)
	for service, allowed := range map[string]bool{"api": true, "web": false} {
		if _, err := server.Client.ConfigEntries().Delete(api.ServiceDefaults, "api", nil); err != nil {
			t.Fatal(err)
		}
		token, _, err := server.Client.ACL().TokenCreate(&api.ACLToken{ServiceIdentities: []*api.ACLServiceIdentity{{ServiceName: service}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Write(t.Context(), server.As(t, token.SecretID), "api", wanted)
		if allowed != (err == nil) {
			t.Errorf("%s: %v", service, err)
		}
		if !allowed && (!consul.Permanent(err) || !strings.Contains(err.Error(), "service-defaults of api")) {
			t.Errorf("%s: %v, want a refusal", service, err)
		}
	}
}

// TestASettingThatConsulRefuses is no conflict.
func TestASettingThatConsulRefuses(t *testing.T) {
	client := consultest.Start(t).Client
	impossible := wanted
	impossible.MaxEjectionPercent = 101
	if _, err := Write(t.Context(), client, "api", impossible); err == nil || !strings.Contains(err.Error(), "write the service-defaults of api") {
		t.Errorf("got %v", err)
	}
	_, err := client.Raw().Query("/v1/config/service-defaults/api", new(any), nil)
	var status api.StatusError
	if !errors.As(err, &status) || status.Code != http.StatusNotFound {
		t.Errorf("an entry is there: %v", err)
	}
}

// TestWhatOnlyNewerServersKnow is refused by this one, in a word that names it.
func TestWhatOnlyNewerServersKnow(t *testing.T) {
	client := consultest.Start(t).Client
	newer := wanted
	newer.Newer = map[string]int{"Consecutive5xx": 5}
	_, err := Write(t.Context(), client, "api", newer)
	var status api.StatusError
	if !errors.As(err, &status) || status.Code != http.StatusBadRequest || !strings.Contains(err.Error(), "Consecutive5xx") {
		t.Errorf("got %v", err)
	}
}
