// Package meshtask turns a plain task definition into that of a mesh task: into
// what examples has, written by hand. It does so to YAML nodes, so that the order,
// the comments and the short tags of what it doesn't own survive, and it asks
// nobody: what it can't know it says in a Result.
//
// What is added, by topology; the last column is what is set anew each time,
// where the rest is only set where nothing is:
//
//	container         topology             what it has                              set anew
//	ecsmesh-init      all                  Essential false, user, no capabilities   Command, Essential, User, ECSMESH_CONFIG,
//	                                       but those of transparentProxy            the volume; Image where one is named
//	envoy             direct, client-agent health check, nofile, StopTimeout 5,     Command, User, the health check's command,
//	                                       port 20000 unless it is a gateway        its waiting for ecsmesh-init, the volume
//	consul-dataplane  dataplane            the same, and TMPDIR                     the same
//	discover-servers  client-agent         as ecsmesh-init, on a volume that        as ecsmesh-init
//	consul-client     client-agent         it shares with consul-client alone;      Command, User, the volume
//	                                       ports 8301, StopTimeout 20
//	the application's all                  waits for Envoy to be HEALTHY; the       its waiting, the volume's path
//	                                       volume, read-only; `check
//	                                       -until-passing` as its health check,
//	                                       if it is essential and has none
//
// What an expansion before set by other settings, which its ECSMESH_CONFIG tells,
// is taken back where it is as that set it: users, capabilities, ports, and who
// waits for whom. What no settings tell of stays, and is noted.
//
// And the volume ecsmesh, with client-agent also consul-client. Containers of ours
// log as the first of the application's that waits, and start after its log
// router. Where the task has no memory of its own they reserve some.
//
// The application's containers are the essential ones but log routers (FireLens)
// and agents that collect traces, metrics or logs, which are known by their
// images. Those with a health check of their own keep it, and it is told to Consul
// (healthSyncContainers), as consul-ecs's module mesh-task does.
//
// A container of ours may be in the plain definition without an Image, to have
// something set in it that is not ours to say: Cpu, Secrets, DockerLabels.
package meshtask
