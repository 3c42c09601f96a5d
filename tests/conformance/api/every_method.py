#!/usr/bin/env python3
"""Calls every method of the four services with the stubs that the OPI project ships, and reads
the same objects over HTTP.

    every_method.py TARGET HTTP [--up]

TARGET is gRPC's (`unix:///run/xpu-agent/agent.sock`, `127.0.0.1:50151`), HTTP the gateway's
address. With --up each object that is created must be up. Exits with a trace where the agent
answers otherwise than the public API says; prints each method that was called.
"""

import json
import sys
import urllib.error
import urllib.request

import grpc
from google.protobuf import field_mask_pb2, json_format
from google.rpc import error_details_pb2, status_pb2
from openapi_spec_validator import validate
from pydpu.proto.v1 import (
    l2_xpu_infra_mgr_pb2 as l2,
    l2_xpu_infra_mgr_pb2_grpc as l2_grpc,
    l3_xpu_infra_mgr_pb2 as l3,
    l3_xpu_infra_mgr_pb2_grpc as l3_grpc,
    networktypes_pb2 as types,
)

CALLED = set()


class Kind:
    """One kind of object: its stub and the types of its requests."""

    def __init__(self, channel, module, stubs, name, field, collection):
        self.module, self.name, self.field = module, name, field
        self.collection = collection
        self.stub = getattr(stubs, f"{name}ServiceStub")(channel)

    def call(self, verb, plural="", **fields):
        method = f"{verb}{self.name}{plural}"
        request = getattr(self.module, f"{method}Request")(**fields)
        CALLED.add(method)
        print(method, flush=True)
        return getattr(self.stub, method)(request, timeout=60)

    def message(self, name="", **spec):
        spec = getattr(self.module, f"{self.name}Spec")(**spec)
        return getattr(self.module, self.name)(name=name, spec=spec)

    def create(self, id, **spec):
        fields = {self.field: self.message(**spec), f"{self.field}_id": id}
        return self.call("Create", **fields)

    def update(self, name, mask=None, allow_missing=False, **spec):
        fields = {self.field: self.message(name, **spec), "allow_missing": allow_missing}
        if mask:
            fields["update_mask"] = field_mask_pb2.FieldMask(paths=mask)
        return self.call("Update", **fields)


def v4(text, length):
    octets = bytes(map(int, text.split(".")))
    address = types.IPAddress(af=types.IP_AF_INET, v4_addr=int.from_bytes(octets, "big"))
    return types.IPPrefix(addr=address, len=length)


def v6(raw, length):
    address = types.IPAddress(af=types.IP_AF_INET6, v6_addr=raw)
    return types.IPPrefix(addr=address, len=length)


def refused(code, call):
    """The details of a refusal with this code."""
    try:
        answer = call()
    except grpc.RpcError as error:
        assert error.code() == code, error
        trailers = dict(error.trailing_metadata())
        status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
        assert status.message == error.details() and status.code == code.value[0], status
        return status
    raise AssertionError(f"not refused: {answer}")


def unpacked(status, kind):
    for detail in status.details:
        message = kind()
        if detail.Unpack(message):
            return message
    raise AssertionError(f"no {kind.DESCRIPTOR.full_name} in {status}")


def http(url, method="GET", body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def main(target, base, up):
    # Over a unix socket this library calls the server by the socket's path, which is no
    # :authority (RFC 9113 section 8.3.1) to a strict server (grpc/grpc issue 38142).
    channel = grpc.insecure_channel(target, [("grpc.default_authority", "localhost")])
    vrfs = Kind(channel, l3, l3_grpc, "Vrf", "vrf", "vrfs")
    svis = Kind(channel, l3, l3_grpc, "Svi", "svi", "svis")
    bridges = Kind(channel, l2, l2_grpc, "LogicalBridge", "logical_bridge", "logicalBridges")
    ports = Kind(channel, l2, l2_grpc, "BridgePort", "bridge_port", "bridgePorts")
    trunk = {"mac_address": b"02:00:00:00:00:aa", "ptype": l2.BRIDGE_PORT_TYPE_TRUNK}

    specs = [
        (vrfs, "vrf-red", {"loopback_ip_prefix": v4("10.255.1.1", 32)}),
        (bridges, "net-blue", {"vlan_id": 100}),
        (
            svis,
            "svi-blue",
            {
                "vrf": "//network.opiproject.org/vrfs/vrf-red",
                "logical_bridge": "//network.opiproject.org/bridges/net-blue",
                "mac_address": bytes([2, 0, 0x5E, 0, 0, 1]),
                "gw_ip_prefix": [v4("10.1.0.1", 24), v6(b"\xfd" + bytes(14) + b"\x01", 64)],
            },
        ),
        # A MAC as text, as a public client sends it. The netdev is a representor of the lab.
        (ports, "rep1", trunk),
    ]
    for kind, id, spec in specs:
        made = kind.create(id, **spec)
        name = f"{kind.collection}/{id}"
        assert made.name == name, made
        if up:
            state = json_format.MessageToDict(made.status)["operStatus"]
            assert state.endswith("_UP"), made
        again = kind.create(id, **spec)
        assert again.spec == made.spec, again
        got = kind.call("Get", name=f"//network.opiproject.org/{kind.collection}/{id}")
        assert got.spec == made.spec, got
        page = kind.call("List", plural="s", page_size=1)
        assert [it.name for it in getattr(page, f"{kind.field}s")] == [name], page
        # What HTTP says is what Google's library makes of the same object.
        code, shown = http(f"{base}/v1/{name}")
        assert (code, shown["spec"]) == (200, json_format.MessageToDict(got)["spec"]), shown
    assert ports.call("Get", name="rep1").spec.mac_address == bytes([2, 0, 0, 0, 0, 0xAA])

    changed = bridges.update("net-blue", mask=["spec.vlan_id"], vlan_id=101)
    assert changed.spec.vlan_id == 101, changed
    made = bridges.update("net-new", allow_missing=True, vlan_id=102)
    assert made.name == "logicalBridges/net-new", made
    vrfs.update("vrf-red", loopback_ip_prefix=v4("10.255.1.2", 32))
    svis.update("svi-blue", mask=["enable_bgp", "spec.remote_as"])
    ports.update("rep1", mask=["*"], logical_bridges=["net-blue"], **trunk)

    status = refused(grpc.StatusCode.INVALID_ARGUMENT, lambda: bridges.create("net-x", vlan_id=4095))
    (violation,) = unpacked(status, error_details_pb2.BadRequest).field_violations
    assert violation.field == "logical_bridge.spec.vlan_id", violation
    status = refused(grpc.StatusCode.FAILED_PRECONDITION, lambda: vrfs.call("Delete", name="vrf-red"))
    info = unpacked(status, error_details_pb2.ErrorInfo)
    assert (info.reason, info.metadata["referrers"]) == ("OBJECT_IN_USE", "svis/svi-blue"), info
    code, body = http(f"{base}/v1/vrfs/vrf-red", "DELETE")
    # Google's library knows the details' types, and reads the same status from the JSON. (Not
    # compared as a whole: within it details are bytes, in which a map has no order.)
    read = json_format.ParseDict(body, status_pb2.Status())
    assert (code, read.code, read.message) == (400, status.code, status.message), body
    assert unpacked(read, error_details_pb2.ErrorInfo) == info, body

    for kind, id, _ in reversed(specs):
        kind.call("Delete", name=id)
        refused(grpc.StatusCode.NOT_FOUND, lambda: kind.call("Get", name=id))
        kind.call("Delete", name=id, allow_missing=True)
    code, _ = http(f"{base}/v1/logicalBridges?logicalBridgeId=net-http", "POST", {"spec": {"vlanId": 7}})
    assert code == 200
    for name in ("net-new", "net-http"):
        code, body = http(f"{base}/v1/logicalBridges/{name}", "DELETE")
        assert (code, body) == (200, {}), body

    services = [it for file in (l2, l3) for it in file.DESCRIPTOR.services_by_name.values()]
    methods = {method.name for service in services for method in service.methods}
    assert len(methods) == 20 and CALLED == methods, methods - CALLED
    code, document = http(f"{base}/openapi.json")
    assert code == 200 and document["openapi"].startswith("3.1"), document
    validate(document)
    print("all methods; the description is valid OpenAPI", document["openapi"])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], "--up" in sys.argv[3:])
