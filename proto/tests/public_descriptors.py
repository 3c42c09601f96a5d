#!/usr/bin/env python3
"""Writes fixtures/public_api.txt and fixtures/public_objects.json: what the OPI
project's own Python client says of the API, as facts for the tests to hold ours against.

Run in a virtual environment that has `pydpu` (PyPI):

    python3 -m venv /tmp/pydpu && /tmp/pydpu/bin/pip install pydpu==0.2.1
    /tmp/pydpu/bin/python proto/tests/public_descriptors.py

With a folder as argument it writes there: `make conformance` holds the fixtures against that.

public_api.txt: every message, field, enum value, method and HTTP rule, one a line.
public_objects.json: one object of each kind as bytes and as canonical JSON, both
written by Google's protobuf library, from the public descriptors.
"""

import json
import sys
from pathlib import Path

from google.api import annotations_pb2, client_pb2, field_behavior_pb2, resource_pb2
from google.protobuf import descriptor_pb2, json_format
from pydpu.proto.v1 import (
    component_pb2,
    l2_xpu_infra_mgr_pb2 as l2,
    l3_xpu_infra_mgr_pb2 as l3,
    networktypes_pb2,
)

# networktypes.proto holds many types that the EVPN Gateway does not touch.
NETWORK_TYPES = {"IPAddress", "IPPrefix", "IpAf"}

FIELD = descriptor_pb2.FieldDescriptorProto


def fact(*words, **named):
    """One line: the words, then those of the named values that aren't empty."""
    shown = [f"{key}={value}" for key, value in named.items() if value]
    return " ".join([*map(str, words), *shown])


def field_fact(message, field, oneofs):
    options = field.options
    behavior = options.Extensions[field_behavior_pb2.field_behavior]
    return fact(
        "field",
        message,
        field.number,
        field.name,
        FIELD.Label.Name(field.label),
        FIELD.Type.Name(field.type),
        type=field.type_name,
        json=field.json_name,
        oneof=oneofs[field.oneof_index] if field.HasField("oneof_index") else "",
        presence="explicit" if field.proto3_optional else "",
        behavior=",".join(field_behavior_pb2.FieldBehavior.Name(b) for b in behavior),
        reference=options.Extensions[resource_pb2.resource_reference].type,
    )


def message_facts(name, message):
    assert not message.nested_type and not message.enum_type, name
    resource = message.options.Extensions[resource_pb2.resource]
    yield fact(
        "message",
        name,
        resource=resource.type,
        pattern=",".join(resource.pattern),
        plural=resource.plural,
        singular=resource.singular,
    )
    oneofs = [oneof.name for oneof in message.oneof_decl]
    for field in message.field:
        yield field_fact(name, field, oneofs)


def method_fact(service, method):
    assert not method.client_streaming and not method.server_streaming, method.name
    rule = method.options.Extensions[annotations_pb2.http]
    verb = rule.WhichOneof("pattern")
    return fact(
        "method",
        f"{service}.{method.name}",
        method.input_type,
        method.output_type,
        verb,
        getattr(rule, verb),
        body=rule.body,
        signature=";".join(method.options.Extensions[client_pb2.method_signature]),
    )


def api():
    for module in (component_pb2, l2, l3, networktypes_pb2):
        file = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)

        def kept(thing):
            return module is not networktypes_pb2 or thing.name in NETWORK_TYPES

        for message in filter(kept, file.message_type):
            yield from message_facts(f"{file.package}.{message.name}", message)
        for enum in filter(kept, file.enum_type):
            for value in enum.value:
                yield fact("enum", f"{file.package}.{enum.name}", value.number, value.name)
        for service in file.service:
            for method in service.method:
                yield method_fact(f"{file.package}.{service.name}", method)


def v4(text_octets, length):
    address = networktypes_pb2.IPAddress(
        af="IP_AF_INET", v4_addr=int.from_bytes(bytes(text_octets), "big")
    )
    return networktypes_pb2.IPPrefix(addr=address, len=length)


def v6(raw, length):
    address = networktypes_pb2.IPAddress(af="IP_AF_INET6", v6_addr=raw)
    return networktypes_pb2.IPPrefix(addr=address, len=length)


def component(name, status, details):
    return component_pb2.Component(name=name, status=status, details=details)


def objects():
    mac = bytes.fromhex("0200000000fe")
    yield l2.LogicalBridge(
        name="logicalBridges/blue",
        spec=l2.LogicalBridgeSpec(vlan_id=100, vni=10100, vtep_ip_prefix=v4([10, 255, 0, 1], 32)),
        status=l2.LogicalBridgeStatus(
            oper_status="LB_OPER_STATUS_UP",
            components=[component("linux", "COMP_STATUS_SUCCESS", '{"vlan":100}')],
        ),
    )
    # `optional uint32 vni`: present and zero differs from absent.
    yield l2.LogicalBridge(name="logicalBridges/zero", spec=l2.LogicalBridgeSpec(vlan_id=4094, vni=0))
    yield l2.LogicalBridge(name="logicalBridges/local", spec=l2.LogicalBridgeSpec(vlan_id=1))
    yield l2.BridgePort(
        name="bridgePorts/access",
        spec=l2.BridgePortSpec(
            mac_address=mac, ptype="BRIDGE_PORT_TYPE_ACCESS", logical_bridges=["logicalBridges/blue"]
        ),
        status=l2.BridgePortStatus(
            oper_status="BP_OPER_STATUS_DOWN",
            components=[
                component("linux", "COMP_STATUS_PENDING", '{"reason":"no netdev"}'),
                component("frr", "COMP_STATUS_ERROR", '{"error":"bgpd: \\"down\\""}'),
            ],
        ),
    )
    yield l2.BridgePort(
        name="bridgePorts/all",
        spec=l2.BridgePortSpec(mac_address=bytes([0xFE, 0xFF, 0xFB, 0xF0, 0, 1]), ptype="BRIDGE_PORT_TYPE_TRUNK"),
    )
    yield l3.Vrf(
        name="vrfs/red",
        spec=l3.VrfSpec(vni=5001, loopback_ip_prefix=v4([10, 0, 0, 2], 32)),
        status=l3.VrfStatus(oper_status="VRF_OPER_STATUS_TO_BE_DELETED"),
    )
    yield l3.Svi(
        name="svis/gw",
        spec=l3.SviSpec(
            vrf="vrfs/red",
            logical_bridge="logicalBridges/blue",
            mac_address=mac,
            gw_ip_prefix=[v4([10, 1, 0, 1], 24), v6(bytes.fromhex("fd00" + "00" * 13 + "01"), 64)],
            enable_bgp=True,
            remote_as=4294967295,
        ),
        status=l3.SviStatus(oper_status="SVI_OPER_STATUS_UP"),
    )
    update = l2.UpdateLogicalBridgeRequest(
        logical_bridge=l2.LogicalBridge(name="logicalBridges/blue"), allow_missing=True
    )
    update.update_mask.paths.extend(["spec.vlan_id", "spec.vtep_ip_prefix"])
    yield update
    yield l3.ListVrfsResponse(vrfs=[l3.Vrf(name="vrfs/red")], next_page_token="bmV4dA")


def main(folder):
    folder.mkdir(exist_ok=True)
    facts = "\n".join(sorted(api()))
    (folder / "public_api.txt").write_text(facts + "\n")
    rows = [
        {
            "message": thing.DESCRIPTOR.full_name,
            "wire": thing.SerializeToString(deterministic=True).hex(),
            "json": json_format.MessageToDict(thing),
        }
        for thing in objects()
    ]
    (folder / "public_objects.json").write_text(json.dumps(rows, indent=1) + "\n")


main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "fixtures")
