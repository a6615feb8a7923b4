package customresource

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/cfn"
	"github.com/sethvargo/go-retry"
)

const (
	// maxReason leaves room for the rest of an answer in the 4 KB that
	// CloudFormation reads, even where JSON takes two bytes for each.
	maxReason = 1500

	// putTime bounds one try. S3 takes a tenth of a second.
	putTime = 4 * time.Second

	// putPause is the pause between tries. It doubles up to putPauseCap.
	putPause    = 200 * time.Millisecond
	putPauseCap = 2 * time.Second
)

// answer puts a response where CloudFormation looks for it, until ctx ends. The
// address is a secret for as long as the request lasts: whoever has it can
// answer.
func (h *Handler) answer(ctx context.Context, address string, response *cfn.Response) error {
	response.Reason = readable(response.Reason)
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false) // which takes six bytes for one
	if err := encoder.Encode(response); err != nil {
		return fmt.Errorf("answer CloudFormation: %w", err)
	}
	pause := retry.WithJitterPercent(20, retry.WithCappedDuration(putPauseCap, retry.NewExponential(putPause)))
	last := errors.New("there was no time left")
	if retry.Do(ctx, pause, func(ctx context.Context) error {
		again, err := h.put(ctx, address, body.Bytes())
		last = err
		if again {
			return retry.RetryableError(err)
		}
		return err
	}) != nil {
		return fmt.Errorf("answer CloudFormation: %w; the function needs a way to S3", last)
	}
	return nil
}

// put makes one try, and tells whether another may go better.
func (h *Handler) put(ctx context.Context, address string, body []byte) (again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, putTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, address, bytes.NewReader(body))
	if err != nil {
		return false, errors.New("its address is no URL")
	}
	// No Content-Type: the address is signed for none.
	response, err := h.Client.Do(request)
	var named *url.Error
	if errors.As(err, &named) {
		err = named.Err // without the address
	}
	if err != nil {
		return true, err
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		return false, nil
	}
	return response.StatusCode >= http.StatusInternalServerError || response.StatusCode == http.StatusTooManyRequests, errors.New(response.Status)
}

// readable makes an error's text one line, and no longer than CloudFormation
// takes.
func readable(reason string) string {
	reason = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ReplaceAll(reason, "\n", "; "))
	const ellipsis = "…"
	if len(reason) <= maxReason {
		return reason
	}
	end := maxReason - len(ellipsis)
	for !utf8.RuneStart(reason[end]) {
		end--
	}
	return reason[:end] + ellipsis
}
