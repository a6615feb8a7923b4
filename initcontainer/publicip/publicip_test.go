package publicip

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/google/go-cmp/cmp"

	"ecsmesh/shared/mesh"
)

var (
	task = mesh.TaskARN{Partition: "aws", Region: "eu-west-1", Account: "123456789012", Cluster: "prod", ID: "a1"}
	own  = Interface{Address: netip.MustParseAddr("10.0.1.5"), MAC: "0A:1b:2c:3d:4e:5f"}
)

// item is an interface in EC2's words; further addresses of it are pairs of a
// private and a public one.
func item(mac string, addresses ...string) string {
	var text strings.Builder
	fmt.Fprintf(&text, "<item><macAddress>%s</macAddress><association><publicIp>192.0.2.99</publicIp></association><privateIpAddressesSet>", mac)
	for i := 0; i < len(addresses); i += 2 {
		association := ""
		if public := addresses[i+1]; public != "" {
			association = "<association><publicIp>" + public + "</publicIp><ipOwnerId>amazon</ipOwnerId></association>"
		}
		fmt.Fprintf(&text, "<item><privateIpAddress>%s</privateIpAddress><primary>%t</primary>%s</item>", addresses[i], i == 0, association)
	}
	return text.String() + "</privateIpAddressesSet></item>"
}

func answer(items ...string) string {
	return `<?xml version="1.0" encoding="UTF-8"?><DescribeNetworkInterfacesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r</requestId><networkInterfaceSet>` +
		strings.Join(items, "") + `</networkInterfaceSet></DescribeNetworkInterfacesResponse>`
}

func refusing(code string) string {
	return `<?xml version="1.0" encoding="UTF-8"?><Response><Errors><Error><Code>` + code + `</Code><Message>Encoded authorization failure message: secret</Message></Error></Errors><RequestID>r</RequestID></Response>`
}

func TestFind(t *testing.T) {
	const mac = "0a:1b:2c:3d:4e:5f"
	for name, test := range map[string]struct {
		status    int
		body      string
		want      string // an address, or part of the error
		permanent bool
	}{
		"the one":                  {200, answer(item(mac, "10.0.1.5", "198.51.100.7")), "198.51.100.7", false},
		"a second address":         {200, answer(item(mac, "10.0.1.4", "198.51.100.6", "10.0.1.5", "198.51.100.7")), "198.51.100.7", false},
		"another VPC's":            {200, answer(item("0a:00:00:00:00:01", "10.0.1.5", "198.51.100.8"), item(mac, "10.0.1.5", "198.51.100.7")), "198.51.100.7", false},
		"a filter that is ignored": {200, answer(item(mac, "10.0.9.9", "198.51.100.8")), "does not know the interface yet", false},
		"nothing yet":              {200, answer(), "does not know the interface yet", false},
		"no public address":        {200, answer(item(mac, "10.0.1.5", "")), "set assignPublicIp", true},
		"two of them":              {200, answer(item(mac, "10.0.1.5", "198.51.100.7"), item(mac, "10.0.1.5", "198.51.100.8")), "knows 2 such interfaces", true},
		"no address":               {200, answer(item(mac, "10.0.1.5", "soon")), `"soon", which is no IP address`, true},
		"half an answer":           {200, answer(item(mac, "10.0.1.5", "198.51.100.7"))[:200], "read EC2's answer", false},
		"no right":                 {403, refusing("UnauthorizedOperation"), "give the task role ec2:DescribeNetworkInterfaces", true},
		"bad credentials":          {401, refusing("AuthFailure"), "401 AuthFailure", true},
		"too many requests":        {503, refusing("RequestLimitExceeded"), "503 RequestLimitExceeded", false},
		"throttled":                {400, refusing("Throttling"), "400 Throttling", false},
		"out of order":             {500, refusing("InternalError"), "500 InternalError", false},
		"somebody else's answer":   {502, "<html>", "502", false},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(test.status)
				fmt.Fprint(w, test.body)
			}))
			t.Cleanup(server.Close)
			got, err := Find(t.Context(), configured(server.URL), task, own)
			text := got.String()
			if err != nil {
				text = err.Error()
			}
			if !strings.Contains(text, test.want) || strings.Contains(text, "secret") {
				t.Errorf("got %s, want %s", text, test.want)
			}
			if Permanent(err) != test.permanent {
				t.Errorf("permanent is %t of %v", Permanent(err), err)
			}
		})
	}
}

func configured(url string) aws.Config {
	return aws.Config{
		BaseEndpoint: &url, Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("AKID", "SECRET", "SESSION"),
		Retryer: func() aws.Retryer { return aws.NopRetryer{} },
	}
}

// TestTheRequest is signed for the task's own Region, and asks for little.
func TestTheRequest(t *testing.T) {
	for mac, want := range map[string]map[string]string{
		own.MAC: {"Filter.1.Name": "addresses.private-ip-address", "Filter.1.Value.1": "10.0.1.5", "Filter.2.Name": "mac-address", "Filter.2.Value.1": own.MAC},
		"":      {"Filter.1.Name": "addresses.private-ip-address", "Filter.1.Value.1": "10.0.1.5"},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if signature := r.Header.Get("Authorization"); !strings.Contains(signature, "/eu-west-1/ec2/aws4_request") || r.Header.Get("X-Amz-Security-Token") != "SESSION" {
				t.Errorf("signed %s", signature)
			}
			got := map[string]string{}
			if err := r.ParseForm(); err != nil {
				t.Error(err)
			}
			for name := range r.PostForm {
				got[name] = r.PostForm.Get(name)
			}
			want["Action"], want["Version"] = "DescribeNetworkInterfaces", "2016-11-15"
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			fmt.Fprint(w, answer(item("x", "10.0.1.5", "198.51.100.7")))
		}))
		_, err := Find(t.Context(), configured(server.URL), task, Interface{Address: own.Address, MAC: mac})
		if (err == nil) != (mac == "") {
			t.Error(err)
		}
		server.Close()
	}
}
