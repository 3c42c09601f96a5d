package main

import (
	"context"
	"encoding/json"
	"os"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/version"
)

// A recorder runs plugins as libcni does by itself and keeps what the last one printed: libcni
// drops from a result what the version's type has no field for, and a test must see that too.
type recorder struct {
	invoke.RawExec
	version.PluginDecoder
	printed []byte
}

func newRecorder() *recorder {
	return &recorder{RawExec: invoke.RawExec{Stderr: os.Stderr}}
}

func (r *recorder) ExecPlugin(ctx context.Context, path string, input []byte, environ []string) ([]byte, error) {
	printed, err := r.RawExec.ExecPlugin(ctx, path, input, environ)
	r.printed = printed
	return printed, err
}

// Document is what the plugin printed; as text where it is no JSON, nothing where it is empty.
func (r *recorder) document() json.RawMessage {
	if len(r.printed) == 0 || json.Valid(r.printed) {
		return r.printed
	}
	text, err := json.Marshal(string(r.printed))
	if err != nil {
		return nil
	}
	return text
}
