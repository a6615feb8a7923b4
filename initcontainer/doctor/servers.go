package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"ecsmesh/initcontainer/doctor/facts"
	"ecsmesh/shared/awsapi"
	"ecsmesh/shared/parameter"
	"ecsmesh/shared/serverlist"
)

func (e *examination) servers() {
	e.list()
	e.ca()
	if e.Redirected != nil {
		e.unknown("this user's connections go through Envoy, so where they end says nothing of the servers: %s; run this as root or as Envoy's user", e.Redirected)
		if !e.reached() {
			return
		}
	}
	if len(e.Servers.Addrs) == 0 {
		if e.State.Task == nil && !e.Configuration.Given {
			e.unknown("nothing here says where the Consul servers are")
		}
		return
	}
	if e.Servers.HTTP == nil {
		e.unknown("no server was asked: without the CA none can be trusted")
		return
	}
	e.httpPorts()
	e.clock()
	e.xdsPorts()
}

// list is about where the addresses are from. A task that reaches servers goes on
// without, until all of them are replaced.
func (e *examination) list() {
	servers := e.Servers
	harmless := e.State.Task != nil && e.reached()
	if servers.HostsErr != nil {
		e.later(harmless, HostsUnresolved, servers.HostsErr.Error(), "correct consulServers.hosts, or have the DNS of the VPC know the names")
	}
	list := servers.Parameter
	if list == nil {
		return
	}
	name := list.Name
	var refused *awsapi.Error
	switch err := list.Err; {
	case err == nil:
		e.ok("the SSM parameter %s names %s", name, addresses(list))
	case errors.Is(err, awsapi.ErrCredentials):
		e.later(harmless, CredentialsMissing, err.Error(), "give the task definition a taskRoleArn, with leave for ssm:GetParameter of "+name)
	case errors.Is(err, serverlist.ErrNotPublished):
		e.later(harmless, ListMissing, err.Error(), "see whether publish-servers runs and finds a Consul server (its log, and the metrics NoUsableServer and ServersPublished), and whether its ServersParameterName is "+name+" in this Region")
	case errors.As(err, &refused) && strings.HasPrefix(refused.Code, "AccessDenied"):
		e.later(harmless, ListForbidden, err.Error(), "allow ssm:GetParameter of "+name+" in the task's role, and in the policy of the VPC endpoint of SSM if there is one")
	case e.Redirected != nil && unanswered(err):
		e.unknown("%s", err)
	case errors.As(err, &refused) || unanswered(err):
		e.later(harmless, ListUnread, err.Error(), "let the task reach SSM by HTTPS: by a NAT gateway, or a VPC endpoint com.amazonaws.<region>.ssm whose security group lets the task in")
	default:
		e.later(harmless, ListUnusable, err.Error(), "have the parameter hold IP addresses with commas between them; publish-servers writes it anew at its next run, unless something else writes there")
	}
}

func addresses(list *facts.Parameter) string {
	var texts []string
	for _, addr := range list.Addrs {
		texts = append(texts, addr.String())
	}
	return strings.Join(texts, ", ")
}

// unanswered tells whether nobody answered at all.
func unanswered(err error) bool {
	var network *net.OpError
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

func (e *examination) ca() {
	ca := e.Servers.CA
	if ca == nil {
		return
	}
	if ca.Err == nil {
		e.ok("the SSM parameter %s has the servers' CA", ca.Parameter)
		return
	}
	do := "put the CA's certificate, in PEM and without its key, into the SSM parameter " + ca.Parameter + ", or correct consulServers.defaults.caCertParameter"
	var refused *awsapi.Error
	switch {
	case errors.Is(ca.Err, awsapi.ErrCredentials):
		e.wrong(CredentialsMissing, ca.Err.Error(), "give the task definition a taskRoleArn, with leave for ssm:GetParameter of "+ca.Parameter)
		return
	case errors.Is(ca.Err, parameter.ErrNotFound):
	case errors.As(ca.Err, &refused):
		do = "allow ssm:GetParameter of " + ca.Parameter + " in the task's role, and kms:Decrypt or secretsmanager:GetSecretValue where it is encrypted or a secret"
	case unanswered(ca.Err):
		do = "let the task reach SSM by HTTPS: by a NAT gateway or a VPC endpoint"
	}
	e.wrong(CAUnread, ca.Err.Error(), do)
}

// httpPorts is about where tasks register and functions write.
func (e *examination) httpPorts() {
	ports := e.Servers.HTTP
	if e.reached() {
		var leader string
		for _, port := range ports {
			if port.Answered() && port.Leader != "" {
				leader = port.Leader
			}
		}
		if leader == "" {
			e.wrong(LeaderMissing, "the servers answer, and none of them knows a leader",
				"see whether most of the Consul servers run, and their logs: without a leader nothing can be registered or changed. Requests go on meanwhile")
		}
		for _, port := range ports {
			if !port.Answered() {
				e.ok("%s is left out by now: %s", port.Address, e.explain(port))
			} else if leader != "" {
				e.ok("%s answers; %s leads", port.Address, leader)
			}
		}
		return
	}
	if e.noConnection(ports) {
		e.unreachable(ports, e.Servers.HTTPPort)
		return
	}
	if e.tlsFault(ports, "") {
		return
	}
	for _, port := range ports {
		if port.Err == nil && port.Status == http.StatusInternalServerError {
			e.wrong(LeaderMissing, e.explainAll(ports), "see whether most of the Consul servers run, and their logs: without a leader nothing can be registered or changed. Requests go on meanwhile")
			return
		}
	}
	e.wrong(ConsulFails, e.explainAll(ports), fmt.Sprintf("see what listens at the port %d of these addresses, and the log of Consul there", e.Servers.HTTPPort))
}

func (e *examination) unreachable(ports []facts.Port, number int) {
	fact := e.explainAll(ports)
	if e.Servers.Agent {
		e.wrong(AgentUnreachable, fact, "look at the log of the container consul-client: has it started, and joined the servers?")
		return
	}
	do := fmt.Sprintf("allow TCP %d from the tasks' security group to the servers', and see whether Consul runs at these addresses", number)
	if e.Servers.Parameter != nil && e.Servers.Parameter.Err == nil && e.State.Task != nil && addresses(e.Servers.Parameter) != addresses(&facts.Parameter{Addrs: e.Servers.Addrs}) {
		do += ". The list of servers has others by now: check takes them over within a few minutes"
	}
	e.wrong(ServersUnreachable, fact, do)
}

// noConnection tells whether none of the ports was open, or spoke.
func (e *examination) noConnection(ports []facts.Port) bool {
	for _, port := range ports {
		if port.Connected && !unanswered(port.Err) {
			return false
		}
	}
	return true
}

func (e *examination) explainAll(ports []facts.Port) string {
	var texts []string
	for _, port := range ports {
		texts = append(texts, port.Address+": "+e.explain(port))
	}
	return strings.Join(texts, "; ")
}

func (e *examination) explain(port facts.Port) string {
	switch {
	case errors.Is(port.Err, syscall.ECONNREFUSED):
		return "connection refused, so nothing listens there"
	case !port.Connected && timedOut(port.Err):
		return "no connection in time, as with a security group or a route that is missing, or a dead server"
	case timedOut(port.Err):
		return "it accepts connections and does not answer in time"
	case errors.Is(port.Err, io.EOF), errors.Is(port.Err, io.ErrUnexpectedEOF), errors.Is(port.Err, syscall.ECONNRESET):
		return "it ends connections without an answer"
	case port.Err != nil:
		return innermost(port.Err).Error()
	case port.Status != http.StatusOK:
		return fmt.Sprintf("HTTP status %d", port.Status)
	}
	return "it answers"
}

func timedOut(err error) bool {
	var network net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &network) && network.Timeout()
}

// innermost leaves out what was asked, which is known.
func innermost(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// tlsFault is about how servers prove who they are, at HTTP or another port.
func (e *examination) tlsFault(ports []facts.Port, at string) bool {
	for _, port := range ports {
		var (
			authority x509.UnknownAuthorityError
			misnamed  x509.HostnameError
			invalid   x509.CertificateInvalidError
			untrusted *tls.CertificateVerificationError
			plain     tls.RecordHeaderError
		)
		fact := port.Address + at + ": "
		if port.Err != nil {
			fact += innermost(port.Err).Error()
		}
		switch {
		case errors.As(port.Err, &plain):
			e.wrong(TLSMissing, fact, "switch TLS on at the servers, correct the port, or set consulServers.defaults.tls to false")
		case port.Err == nil && !e.Servers.TLS && port.Status == http.StatusBadRequest:
			e.wrong(TLSUnwanted, fact+"it takes no plain HTTP", "set consulServers.defaults.tls and caCertParameter in the task's configuration, or correct the port: with TLS it is 8501, and 8503 for xDS")
		case errors.As(port.Err, &authority):
			e.wrong(CAWrong, fact, "have the task know the CA that issued the servers' certificates: caCertParameter, caCertFile or CONSUL_CACERT_PEM of the configuration. A task takes it over when it starts: after the parameter was changed, deploy anew")
		case errors.As(port.Err, &misnamed):
			e.wrong(ServerNameWrong, fact, "set tlsServerName in consulServers.defaults to a name of the certificate, or remove it: Consul's own names are server.<datacenter>.consul")
		case errors.As(port.Err, &invalid):
			e.wrong(ServerCertificateInvalid, fact, "renew the servers' certificates, and have Consul load them: consul reload")
		case errors.As(port.Err, &untrusted):
			e.wrong(ServerNameWrong, fact, "set tlsServerName in consulServers.defaults to a name of the certificate")
		default:
			continue
		}
		return true
	}
	return false
}

// tolerated is by how much clocks may differ. AWS takes five minutes.
const tolerated = 2 * time.Minute

// clock compares this host's with those of the servers, all of which have to
// differ: one alone is wrong itself.
func (e *examination) clock() {
	var least, most time.Duration
	seen := 0
	for _, port := range e.Servers.HTTP {
		if port.Date.IsZero() {
			continue
		}
		ahead := e.Now.Sub(port.Date)
		if seen == 0 || ahead < least {
			least = ahead
		}
		if seen == 0 || ahead > most {
			most = ahead
		}
		seen++
	}
	const do = "set the clock of the EC2 instance right, with chrony and Amazon's time at 169.254.169.123; if it is the servers' that is wrong, theirs. Certificates and AWS's signatures are valid for a time only"
	switch {
	case seen == 0:
	case least > tolerated:
		e.wrong(ClockWrong, fmt.Sprintf("it is %s ahead of that of every Consul server (%d)", about(least), seen), do)
	case most < -tolerated:
		e.wrong(ClockWrong, fmt.Sprintf("it is %s behind that of every Consul server (%d)", about(-most), seen), do)
	default:
		e.ok("the clock agrees with Consul's")
	}
}

// xdsPorts is about where Envoy has its configuration from.
func (e *examination) xdsPorts() {
	ports := e.Servers.GRPC
	open := 0
	for _, port := range ports {
		if port.Connected && port.Err == nil {
			open++
		}
	}
	switch {
	case open > 0:
		e.ok("the xDS port %d is open at %d of %d", e.Servers.GRPCPort, open, len(ports))
	case e.noConnection(ports) && e.Servers.Agent:
		e.wrong(XDSUnreachable, e.explainAll(ports), "have the Consul client open its gRPC port: discover-servers writes that into its configuration")
	case e.noConnection(ports):
		e.wrong(XDSUnreachable, e.explainAll(ports), fmt.Sprintf("allow TCP %d from the tasks' security group to the servers', beside %d; see whether ports.grpc or grpc_tls of Consul is that", e.Servers.GRPCPort, e.Servers.HTTPPort))
	case !e.tlsFault(ports, " (xDS)"):
		e.wrong(XDSUnreachable, e.explainAll(ports), "see what listens there, and the log of Consul")
	}
}
