// Manifest reads Kubernetes manifests by Kubernetes' own types, strictly: a key that no type has,
// or that stands twice, is an error. Prints a line for each object.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	nad "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
	apps "k8s.io/api/apps/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	documents "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

func main() {
	for _, path := range os.Args[1:] {
		if err := read(path); err != nil {
			fmt.Fprintf(os.Stderr, "manifest: %s: %v\n", path, err)
			os.Exit(1)
		}
	}
}

func read(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	reader := documents.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := decode(document); err != nil {
			return err
		}
	}
}

func decode(document []byte) error {
	var kind meta.TypeMeta
	if err := yaml.Unmarshal(document, &kind); err != nil {
		return err
	}
	var object meta.Object
	switch kind.APIVersion + "/" + kind.Kind {
	case "apps/v1/DaemonSet":
		object = &apps.DaemonSet{}
	case "k8s.cni.cncf.io/v1/NetworkAttachmentDefinition":
		object = &nad.NetworkAttachmentDefinition{}
	default:
		return fmt.Errorf("no type here for %s of %q", kind.Kind, kind.APIVersion)
	}
	if err := yaml.UnmarshalStrict(document, object); err != nil {
		return err
	}
	fmt.Println(kind.Kind, object.GetName())
	return nil
}
