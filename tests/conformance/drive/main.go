// Drive does CNI verbs on one network configuration through libcni, the library of the container
// runtimes, and prints a line of JSON for each.
//
// The verbs are done in the order given, and one that fails does not keep the next from its turn:
// whether a failure is right is for the caller to say. Nothing is left out by itself: a verb that
// the configuration's version does not have is libcni's to refuse.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
)

// The time that one verb has. A plugin that takes longer hangs.
const verbLimit = time.Minute

// A report is what became of one verb.
type report struct {
	Version string `json:"cniVersion"`
	Verb    string `json:"verb"`
	OK      bool   `json:"ok"`
	// What the plugin printed, as it is. Several verbs print nothing.
	Printed json.RawMessage `json:"printed,omitempty"`
	// The result as libcni understood it, written anew.
	Result types.Result `json:"result,omitempty"`
	// The versions that the plugin says it speaks.
	Versions []string `json:"versions,omitempty"`
	// The plugin's error; without code where it is libcni's own.
	Error *types.Error `json:"error,omitempty"`
}

// A session is one attachment of one network.
type session struct {
	cni     *libcni.CNIConfig
	exec    *recorder
	network *libcni.NetworkConfigList
	runtime *libcni.RuntimeConf
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "drive:", err)
		os.Exit(1)
	}
}

func run() error {
	config := flag.String("config", "", "file with the plugin's configuration: an object with a type")
	version := flag.String("cni-version", "1.1.0", "version of the specification to speak")
	name := flag.String("network", "lab", "name of the network")
	verbs := flag.String("verbs", "add,del", "what to do, in this order: "+strings.Join(verbNames(), ", "))
	capabilities := flag.String("capabilities", "{}", "capability arguments, an object")
	cache := flag.String("cache", "/var/lib/cni", "folder that libcni keeps its results in")
	runtime := &libcni.RuntimeConf{}
	flag.StringVar(&runtime.ContainerID, "container", "", "container")
	flag.StringVar(&runtime.NetNS, "netns", "", "file of the container's network namespace")
	flag.StringVar(&runtime.IfName, "ifname", "net1", "interface in the container")
	flag.Parse()

	if err := json.Unmarshal([]byte(*capabilities), &runtime.CapabilityArgs); err != nil {
		return fmt.Errorf("-capabilities: %w", err)
	}
	network, err := load(*config, *name, *version)
	if err != nil {
		return err
	}
	exec := newRecorder()
	path := filepath.SplitList(os.Getenv("CNI_PATH"))
	session := &session{
		cni:     libcni.NewCNIConfigWithCacheDir(path, *cache, exec),
		exec:    exec,
		network: network,
		runtime: runtime,
	}
	lines := json.NewEncoder(os.Stdout)
	for _, verb := range strings.Split(*verbs, ",") {
		report, err := session.do(verb)
		if err != nil {
			return err
		}
		if err := lines.Encode(report); err != nil {
			return err
		}
	}
	return nil
}

// Load makes a network of the one plugin whose configuration is in a file.
func load(path, name, version string) (*libcni.NetworkConfigList, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var plugin map[string]any
	if err := json.Unmarshal(text, &plugin); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	list, err := json.Marshal(map[string]any{
		"cniVersion": version,
		"name":       name,
		"plugins":    []any{plugin},
	})
	if err != nil {
		return nil, err
	}
	return libcni.NetworkConfFromBytes(list)
}

// Do does one verb; its failure is in the report, a verb that there is not is an error.
func (s *session) do(name string) (*report, error) {
	verb, known := verbs[name]
	if !known {
		return nil, fmt.Errorf("no verb %q, only %s", name, strings.Join(verbNames(), ", "))
	}
	ctx, cancel := context.WithTimeout(context.Background(), verbLimit)
	defer cancel()
	s.exec.printed = nil
	report := &report{Version: s.network.CNIVersion, Verb: name}
	err := verb(ctx, s, report)
	report.OK = err == nil
	report.Printed = s.exec.document()
	if err != nil {
		var told *types.Error
		if !errors.As(err, &told) {
			told = &types.Error{Msg: err.Error()}
		}
		report.Error = told
	}
	return report, nil
}
