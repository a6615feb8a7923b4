// Package invocation holds what every Lambda function needs to know of the
// invocation that it serves: what its log lines and metrics are about, and how
// long it has.
package invocation

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"
)

// NewLogger returns a logger of JSON lines as Lambda reads them. Lines that are
// logged with an invocation's context carry its request ID, and what About says.
//
// The level is the function's own matter, not Lambda's: Lambda's filter takes
// lines without a level for INFO, and so would drop the metrics, which are such
// lines, of a function that logs warnings only.
func NewLogger(out io.Writer, level slog.Level) *slog.Logger {
	return slog.New(handler{slog.NewJSONHandler(out, &slog.HandlerOptions{
		Level:       level,
		ReplaceAttr: lambdacontext.ReplaceAttr,
	})})
}

type handler struct{ slog.Handler }

func (h handler) Handle(ctx context.Context, record slog.Record) error {
	record.AddAttrs(Attrs(ctx)...)
	return h.Handler.Handle(ctx, record)
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs)}
}

func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.Handler.WithGroup(name)}
}

const (
	// answerTime is kept back from the invocation's time, so that a function
	// whose work took too long can still say which, and be it only in its log.
	answerTime = 3 * time.Second

	// maxWorkTime bounds the work where the function's timeout is long or,
	// outside Lambda, absent: what failed for so long is better tried anew.
	maxWorkTime = 25 * time.Second
)

// WorkContext returns a context for the work of an invocation, which ends early
// enough for an answer.
func WorkContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return WorkContextUpTo(ctx, maxWorkTime)
}

// WorkContextUpTo is WorkContext for work that may take as long as most.
func WorkContextUpTo(ctx context.Context, most time.Duration) (context.Context, context.CancelFunc) {
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		// A function with a very short timeout keeps most of it for its work.
		most = min(most, left-min(answerTime, left/4))
	}
	return context.WithTimeout(ctx, most)
}
