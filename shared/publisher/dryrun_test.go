package publisher

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"ecsmesh/shared/dryrun"
	"ecsmesh/shared/parameter"
	"ecsmesh/shared/serverlist"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"
)

// half is a Parameter Store that is read from a fake, and changed in a plan.
type half struct {
	*fakeParameter
	planned planned
}

func (h half) Write(ctx context.Context, addrs []netip.Addr) error {
	return serverlist.New(h.planned, "/servers").Write(ctx, addrs)
}

func TestDryRun(t *testing.T) {
	old := "10.0.0.1"
	for name, test := range map[string]struct {
		servers   []string
		fault     error
		value     *string
		action    string
		requests  int
		couldRead bool
	}{
		"other servers":            {[]string{"10.0.0.2"}, nil, &old, "write", 1, true},
		"no list yet":              {[]string{"10.0.0.2"}, nil, nil, "write", 1, true},
		"the same servers":         {[]string{old}, nil, &old, "keep", 0, true},
		"no servers":               {nil, nil, &old, "keep", 0, true},
		"nobody knows the servers": {nil, errors.New("no credentials"), &old, "write", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture("")
			plan := dryrun.New(f.Publisher.log)
			f.source.run(test.servers...)
			f.source.err, f.parameter.value = test.fault, test.value
			f.plan = plan
			f.Publisher.parameter = half{f.parameter, planned{parameter.NewStore(aws.Config{}), plan}}
			if err := f.Publish(t.Context()); err != nil {
				t.Fatal(err)
			}
			got := plan.Take()
			if len(got.Would) != 1 || got.Would[0].Action != test.action || len(got.Requests) != test.requests || (len(got.CouldNotRead) == 0) != test.couldRead {
				t.Errorf("the plan is %+v", got)
			}
			if diff := cmp.Diff(test.value, f.parameter.value); diff != "" || len(f.parameter.writes) > 0 {
				t.Errorf("the parameter changed (-before +after):\n%s", diff)
			}
		})
	}
}
