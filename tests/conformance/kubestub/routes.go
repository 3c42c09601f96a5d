package main

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
)

const (
	pods     = "pods"
	networks = "network-attachment-definitions"
)

func routes(objects store) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/namespaces/{namespace}/pods/{name}", func(w http.ResponseWriter, r *http.Request) {
		get(w, r, objects, pods)
	})
	mux.HandleFunc("GET /apis/k8s.cni.cncf.io/v1/namespaces/{namespace}/"+networks+"/{name}", func(w http.ResponseWriter, r *http.Request) {
		get(w, r, objects, networks)
	})
	mux.HandleFunc("PUT /api/v1/namespaces/{namespace}/pods/{name}/status", func(w http.ResponseWriter, r *http.Request) {
		putStatus(w, r, objects)
	})
	mux.HandleFunc("POST /api/v1/namespaces/{namespace}/events", echo)
	return mux
}

func get(w http.ResponseWriter, r *http.Request, objects store, plural string) {
	object, err := objects.read(plural, r.PathValue("namespace"), r.PathValue("name"))
	if err != nil {
		refuse(w, r, plural, err)
		return
	}
	answer(w, http.StatusOK, object)
}

// PutStatus takes annotations, which a write to `status` may change in Kubernetes too, and leaves
// the rest of the pod.
func putStatus(w http.ResponseWriter, r *http.Request, objects store) {
	namespace, name := r.PathValue("namespace"), r.PathValue("name")
	update := &corev1.Pod{}
	if err := decode(r, update); err != nil {
		refuse(w, r, pods, apierrors.NewBadRequest(err.Error()))
		return
	}
	text, err := objects.read(pods, namespace, name)
	if err != nil {
		refuse(w, r, pods, err)
		return
	}
	pod := &corev1.Pod{}
	if err := json.Unmarshal(text, pod); err != nil {
		refuse(w, r, pods, err)
		return
	}
	if update.UID != pod.UID {
		refuse(w, r, pods, apierrors.NewConflict(schema.GroupResource{Resource: pods}, name, errors.New("the UID differs")))
		return
	}
	pod.Annotations = update.Annotations
	text, err = json.Marshal(pod)
	if err == nil {
		err = objects.write(pods, namespace, name, text)
	}
	if err != nil {
		refuse(w, r, pods, err)
		return
	}
	answer(w, http.StatusOK, text)
}

// Echo takes an event for granted.
func echo(w http.ResponseWriter, r *http.Request) {
	event := &corev1.Event{}
	if err := decode(r, event); err != nil {
		refuse(w, r, "events", apierrors.NewBadRequest(err.Error()))
		return
	}
	event.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Event"))
	text, err := json.Marshal(event)
	if err != nil {
		refuse(w, r, "events", err)
		return
	}
	answer(w, http.StatusCreated, text)
}

// Decode reads an object as Multus sends it, in protocol buffers, or in JSON.
func decode[T interface {
	*corev1.Pod | *corev1.Event
}](r *http.Request, into T) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	object, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil)
	if err != nil {
		return err
	}
	// By way of JSON, so that a value of the wrong kind is an error and no panic.
	text, err := json.Marshal(object)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

func answer(w http.ResponseWriter, code int, object []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// A client that has gone has its answer no more.
	_, _ = w.Write(object)
}

// Refuse answers with a Status, as clients tell "not found" from other errors by it.
func refuse(w http.ResponseWriter, r *http.Request, plural string, err error) {
	var status *apierrors.StatusError
	switch {
	case errors.As(err, &status):
	case errors.Is(err, fs.ErrNotExist):
		status = apierrors.NewNotFound(schema.GroupResource{Resource: plural}, r.PathValue("name"))
	default:
		status = apierrors.NewInternalError(err)
	}
	reply := status.Status()
	reply.Kind, reply.APIVersion = "Status", "v1"
	text, err := json.Marshal(reply)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer(w, int(reply.Code), text)
}
