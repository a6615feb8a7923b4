package metrics

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ecsmesh/shared/invocation"
)

func newTestWriter() (*Writer, *bytes.Buffer) {
	out := &bytes.Buffer{}
	w := NewWriter(out, "ecsmesh-DeregisterTasksFunction-1A2B")
	w.now = func() time.Time { return time.UnixMilli(1762268607512) }
	return w, out
}

func TestWriteOneLine(t *testing.T) {
	w, out := newTestWriter()
	err := w.Write(t.Context(),
		Count("TasksDrained", 2),
		Milliseconds("EventToConsulMilliseconds", 118*time.Millisecond, 2*time.Second),
	)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"EventToConsulMilliseconds":[118,2000],` +
		`"FunctionName":"ecsmesh-DeregisterTasksFunction-1A2B",` +
		`"TasksDrained":2,` +
		`"_aws":{"CloudWatchMetrics":[{"Dimensions":[["FunctionName"]],` +
		`"Metrics":[{"Name":"TasksDrained","Unit":"Count"},{"Name":"EventToConsulMilliseconds","Unit":"Milliseconds"}],` +
		`"Namespace":"ecsmesh"}],"Timestamp":1762268607512}}` + "\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWriteSplitsWhatCloudWatchWouldDrop(t *testing.T) {
	w, out := newTestWriter()
	if err := w.Write(t.Context(), Count("TasksDrained", 250), Milliseconds("EventToConsulMilliseconds", make([]time.Duration, 250)...)); err != nil {
		t.Fatal(err)
	}
	var latencies, counts []int
	for line := range strings.Lines(out.String()) {
		var decoded struct {
			EventToConsulMilliseconds []float64
			TasksDrained              int
		}
		if err := json.Unmarshal([]byte(line), &decoded); err != nil {
			t.Fatal(err)
		}
		latencies = append(latencies, len(decoded.EventToConsulMilliseconds))
		counts = append(counts, decoded.TasksDrained)
	}
	if diff := cmp.Diff([]int{100, 100, 50}, latencies); diff != "" {
		t.Errorf("latencies a line (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int{250, 0, 0}, counts); diff != "" {
		t.Errorf("counts a line, of which only one may be there (-want +got):\n%s", diff)
	}
}

func TestWriteWithOneDimensionMore(t *testing.T) {
	w, out := newTestWriter()
	for _, reason := range []string{"OtherRegion", "EcsError"} {
		if err := w.With("Reason", reason).Write(t.Context(), Count("SweepSkipped", 3)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Write(t.Context(), Count("SweepSkipped", 6)); err != nil { // the writer itself is as it was
		t.Fatal(err)
	}
	line := func(reason, dimensions, count string) string {
		return `{"FunctionName":"ecsmesh-DeregisterTasksFunction-1A2B",` + reason + `"SweepSkipped":` + count +
			`,"_aws":{"CloudWatchMetrics":[{"Dimensions":[[` + dimensions + `]],"Metrics":[{"Name":"SweepSkipped","Unit":"Count"}],` +
			`"Namespace":"ecsmesh"}],"Timestamp":1762268607512}}` + "\n"
	}
	want := line(`"Reason":"OtherRegion",`, `"FunctionName","Reason"`, "3") +
		line(`"Reason":"EcsError",`, `"FunctionName","Reason"`, "3") +
		line("", `"FunctionName"`, "6")
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestLinesSayWhatTheyAreAbout without making metrics or dimensions of that.
func TestLinesSayWhatTheyAreAbout(t *testing.T) {
	w, out := newTestWriter()
	ctx := invocation.About(t.Context(), slog.String(invocation.EventID, "8c1f"), invocation.List(invocation.TaskIDs, []string{"1a"}))
	if err := w.Write(ctx, Count("TasksDrained", 1)); err != nil {
		t.Fatal(err)
	}
	const want = `{"FunctionName":"ecsmesh-DeregisterTasksFunction-1A2B","TasksDrained":1,` +
		`"_aws":{"CloudWatchMetrics":[{"Dimensions":[["FunctionName"]],"Metrics":[{"Name":"TasksDrained","Unit":"Count"}],` +
		`"Namespace":"ecsmesh"}],"Timestamp":1762268607512},"eventId":"8c1f","taskIds":["1a"]}` + "\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWriteLeavesOutWhatHasNoValues(t *testing.T) {
	w, out := newTestWriter()
	if err := w.Write(t.Context(), Milliseconds("EventToConsulMilliseconds")); err != nil {
		t.Fatal(err)
	}
	if out.Len() != 0 {
		t.Errorf("wrote %s", out)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestWriteReportsABrokenOutput(t *testing.T) {
	if err := NewWriter(brokenPipe{}, "f").Write(t.Context(), Count("TasksDrained", 1)); err == nil {
		t.Error("no error")
	}
}
