// Package publicip asks EC2 for the public address of a task's network
// interface, which nothing inside the task knows.
//
// It is one question, for which the client of AWS's SDK for EC2 would make the
// program larger by 2 MB, a quarter.
package publicip

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"

	"ecsmesh/shared/awsapi"
	"ecsmesh/shared/mesh"
)

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

// find asks about an address, which within a VPC is one interface's; its MAC
// tells it from those of other VPCs.
func find(ctx context.Context, sdk aws.Config, task mesh.TaskARN, own Interface) (netip.Addr, error) {
	form := url.Values{
		"Action": {"DescribeNetworkInterfaces"}, "Version": {"2016-11-15"},
		"Filter.1.Name": {"addresses.private-ip-address"}, "Filter.1.Value.1": {own.Address.String()},
	}
	if own.MAC != "" {
		form.Set("Filter.2.Name", "mac-address")
		form.Set("Filter.2.Value.1", own.MAC)
	}
	sdk.Region = task.Region
	body, err := awsapi.Do(ctx, sdk, awsapi.Request{Service: "ec2", ContentType: awsapi.Form, Body: form.Encode()})
	if err != nil {
		return netip.Addr{}, explain(err)
	}
	return read(body, own)
}

// Error is one that trying again can't put right.
type Error struct{ Reason string }

func (e *Error) Error() string { return e.Reason }

// Permanent tells whether trying again can't help.
func Permanent(err error) bool {
	var permanent *Error
	return errors.As(err, &permanent) || awsapi.Permanent(err)
}

// explain says what to do about a refusal.
func explain(err error) error {
	var refused *awsapi.Error
	if errors.As(err, &refused) && refused.Status == http.StatusForbidden {
		return fmt.Errorf("%w; give the task role ec2:DescribeNetworkInterfaces", err)
	}
	return err
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
