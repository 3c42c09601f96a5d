// Kubestub is as much of a Kubernetes API server as Multus needs: pods with their status and
// NetworkAttachmentDefinitions, over plain HTTP.
//
// The objects are files, FOLDER/PLURAL/NAMESPACE/NAME.json, which each request reads anew: a test
// makes, reads and removes objects without a client. What Multus writes is written to the file.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
)

func main() {
	folder := flag.String("objects", "", "folder of the objects")
	kubeconfig := flag.String("kubeconfig", "", "file to write for clients, once they are served")
	flag.Parse()
	if err := run(*folder, *kubeconfig); err != nil {
		log.Fatalln("kubestub:", err)
	}
}

func run(folder, kubeconfig string) error {
	// The kernel gives a free port: what else runs on the machine is not in the way.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: logged(routes(store(folder)))}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	address := listener.Addr().String()
	if err := warmUp(address); err != nil {
		return err
	}
	if err := writeKubeconfig(kubeconfig, address); err != nil {
		return err
	}
	return <-ended
}

// WarmUp asks the server for a pod that there is not: Multus waits for its first answer a quarter
// of a second only, and a program's first request is its slowest on an emulated processor.
func warmUp(address string) error {
	reply, err := http.Get("http://" + address + "/api/v1/namespaces/none/pods/none")
	if err != nil {
		return err
	}
	return reply.Body.Close()
}

// WriteKubeconfig names the server in a file that appears whole.
func writeKubeconfig(path, address string) error {
	type named map[string]any
	config, err := json.Marshal(named{
		"apiVersion":      "v1",
		"kind":            "Config",
		"clusters":        []named{{"name": "stub", "cluster": named{"server": "http://" + address}}},
		"users":           []named{{"name": "stub", "user": named{}}},
		"contexts":        []named{{"name": "stub", "context": named{"cluster": "stub", "user": "stub"}}},
		"current-context": "stub",
	})
	if err != nil {
		return err
	}
	part := filepath.Join(filepath.Dir(path), ".kubeconfig-part")
	if err := os.WriteFile(part, config, 0o600); err != nil {
		return err
	}
	return os.Rename(part, path)
}

// Logged says each request on standard error: the test's message when Multus asks something else.
func logged(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(os.Stderr, r.Method, r.URL)
		handler.ServeHTTP(w, r)
	})
}
