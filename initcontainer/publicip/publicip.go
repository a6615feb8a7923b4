// Package publicip asks EC2 for the public address of a task's network
// interface, which nothing inside the task knows.
//
// It is one signed request. The client of AWS's SDK for EC2 would make the
// program larger by 2 MB, a sixth, and for this one question.
package publicip

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"ecsmesh/shared/mesh"
)

// largest is the most that is read of an answer, which is about one interface.
const largest = 1 << 20

// Interface is a task's network interface, as the task knows it.
type Interface struct {
	Address netip.Addr // private
	MAC     string     // "" where ECS doesn't tell
}

// Find makes one attempt; see Permanent for which errors may be gone at the
// next. The task's role needs ec2:DescribeNetworkInterfaces.
func Find(ctx context.Context, sdk aws.Config, task mesh.TaskARN, own Interface) (netip.Addr, error) {
	addr, err := find(ctx, sdk, task, own)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("find the public address of the network interface at %s: %w", own.Address, err)
	}
	return addr, nil
}

func find(ctx context.Context, sdk aws.Config, task mesh.TaskARN, own Interface) (netip.Addr, error) {
	request, err := describe(ctx, sdk, task, own)
	if err != nil {
		return netip.Addr{}, err
	}
	var client aws.HTTPClient = http.DefaultClient
	if sdk.HTTPClient != nil {
		client = sdk.HTTPClient
	}
	response, err := client.Do(request)
	if err != nil {
		return netip.Addr{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, largest))
	if err != nil {
		return netip.Addr{}, err
	}
	if response.StatusCode != http.StatusOK {
		return netip.Addr{}, refusal(response.StatusCode, body)
	}
	return read(body, own)
}

// describe is the signed request. Within a VPC, an address is one interface's;
// its MAC tells it from those of other VPCs.
func describe(ctx context.Context, sdk aws.Config, task mesh.TaskARN, own Interface) (*http.Request, error) {
	at, err := endpoint(sdk, task)
	if err != nil {
		return nil, err
	}
	form := url.Values{
		"Action": {"DescribeNetworkInterfaces"}, "Version": {"2016-11-15"},
		"Filter.1.Name": {"addresses.private-ip-address"}, "Filter.1.Value.1": {own.Address.String()},
	}
	if own.MAC != "" {
		form.Set("Filter.2.Name", "mac-address")
		form.Set("Filter.2.Value.1", own.MAC)
	}
	body := form.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, at, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	credentials, err := sdk.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, fmt.Errorf("get AWS credentials: %w", err)
	}
	hash := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(ctx, credentials, request, hex.EncodeToString(hash[:]), "ec2", task.Region, time.Now()); err != nil {
		return nil, fmt.Errorf("sign a request to EC2: %w", err)
	}
	return request, nil
}

// endpoint is EC2's in the task's Region, or an emulator's.
func endpoint(sdk aws.Config, task mesh.TaskARN) (string, error) {
	if sdk.BaseEndpoint != nil {
		return strings.TrimSuffix(*sdk.BaseEndpoint, "/") + "/", nil
	}
	switch task.Partition {
	case "aws", "aws-us-gov":
		return "https://ec2." + task.Region + ".amazonaws.com/", nil
	case "aws-cn":
		return "https://ec2." + task.Region + ".amazonaws.com.cn/", nil
	}
	return "", &Error{Reason: "EC2's endpoint in the partition " + task.Partition + " is not known here"}
}

// Error is one that trying again can't put right.
type Error struct{ Reason string }

func (e *Error) Error() string { return e.Reason }

// Permanent tells whether trying again can't help.
func Permanent(err error) bool {
	var permanent *Error
	return errors.As(err, &permanent)
}

// refusal puts EC2's answer into words. Its message may say, encoded, what only
// those should read who may decode it.
func refusal(status int, body []byte) error {
	var answer struct {
		Code string `xml:"Errors>Error>Code"`
	}
	_ = xml.Unmarshal(body, &answer) // a proxy's answer may be anything
	reason := fmt.Sprintf("EC2 answered HTTP status %d %s", status, answer.Code)
	switch {
	case status == http.StatusForbidden:
		return &Error{reason + "; give the task role ec2:DescribeNetworkInterfaces"}
	case status >= 500 || status == http.StatusTooManyRequests || strings.Contains(answer.Code, "Throttl") || answer.Code == "RequestLimitExceeded":
		return errors.New(reason)
	}
	return &Error{reason}
}

// networkInterface is the part of EC2's answer that is used here.
type networkInterface struct {
	MAC       string `xml:"macAddress"`
	Addresses []struct {
		Private string `xml:"privateIpAddress"`
		Public  string `xml:"association>publicIp"`
	} `xml:"privateIpAddressesSet>item"`
}

// read trusts no filter.
func read(body []byte, own Interface) (netip.Addr, error) {
	var answer struct {
		Interfaces []networkInterface `xml:"networkInterfaceSet>item"`
	}
	if err := xml.Unmarshal(body, &answer); err != nil {
		return netip.Addr{}, fmt.Errorf("read EC2's answer: %w", err)
	}
	found := 0
	public := ""
	for _, each := range answer.Interfaces {
		if own.MAC != "" && !strings.EqualFold(each.MAC, own.MAC) {
			continue
		}
		for _, address := range each.Addresses {
			if addr, err := netip.ParseAddr(address.Private); err == nil && addr == own.Address {
				found++
				public = address.Public
			}
		}
	}
	switch {
	case found == 0:
		return netip.Addr{}, errors.New("EC2 does not know the interface yet")
	case found > 1:
		return netip.Addr{}, &Error{fmt.Sprintf("EC2 knows %d such interfaces, in several VPCs", found)}
	case public == "":
		return netip.Addr{}, &Error{"it has none; on Fargate, set assignPublicIp of the ECS service to ENABLED, in a subnet with an internet gateway; on EC2, ECS gives tasks none, so set gateway.wanAddress.address to that of a load balancer"}
	}
	addr, err := netip.ParseAddr(public)
	if err != nil {
		return netip.Addr{}, &Error{fmt.Sprintf("EC2 says %q, which is no IP address", public)}
	}
	return addr, nil
}
