package main

import (
	"context"
	"maps"
	"slices"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
)

type verb func(context.Context, *session, *report) error

// Verbs are the runtime's moves. GC comes in four: one names this attachment as valid, the others
// name none, each in another way.
var verbs = map[string]verb{
	"version": func(ctx context.Context, s *session, r *report) error {
		info, err := s.cni.GetVersionInfo(ctx, s.network.Plugins[0].Network.Type)
		if err == nil {
			r.Versions = info.SupportedVersions()
		}
		return err
	},
	// Libcni's look before it uses a network: is every plugin there, does it speak the version?
	"validate": func(ctx context.Context, s *session, _ *report) error {
		_, err := s.cni.ValidateNetworkList(ctx, s.network)
		return err
	},
	"status": func(ctx context.Context, s *session, _ *report) error {
		return s.cni.GetStatusNetworkList(ctx, s.network)
	},
	"add": func(ctx context.Context, s *session, r *report) error {
		result, err := s.cni.AddNetworkList(ctx, s.network, s.runtime)
		r.Result = result
		return err
	},
	"check": func(ctx context.Context, s *session, _ *report) error {
		return s.cni.CheckNetworkList(ctx, s.network, s.runtime)
	},
	"del": func(ctx context.Context, s *session, _ *report) error {
		return s.cni.DelNetworkList(ctx, s.network, s.runtime)
	},
	"gc-keep": func(ctx context.Context, s *session, _ *report) error {
		valid := types.GCAttachment{ContainerID: s.runtime.ContainerID, IfName: s.runtime.IfName}
		return s.cni.GCNetworkList(ctx, s.network, &libcni.GCArgs{
			ValidAttachments: []types.GCAttachment{valid},
		})
	},
	// Where libcni's cache has an attachment, it is sent a DEL before the GC. To see the plugin do
	// GC's work, give -cache another folder.
	"gc-drop": func(ctx context.Context, s *session, _ *report) error {
		return s.cni.GCNetworkList(ctx, s.network, &libcni.GCArgs{
			ValidAttachments: []types.GCAttachment{},
		})
	},
	// The same as a runtime has it that begins with no slice and appends: CRI-O, for a network without
	// pods.
	"gc-none": func(ctx context.Context, s *session, _ *report) error {
		return s.cni.GCNetworkList(ctx, s.network, &libcni.GCArgs{})
	},
	// What `cnitool gc` does: libcni leaves the list of valid attachments out.
	"gc-blind": func(ctx context.Context, s *session, _ *report) error {
		return s.cni.GCNetworkList(ctx, s.network, nil)
	},
}

func verbNames() []string {
	return slices.Sorted(maps.Keys(verbs))
}
