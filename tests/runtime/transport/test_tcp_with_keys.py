"""Over tcp: who is let in, what everybody else is told, and connections that break."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest
from tests.fakes.tcp_proxy import TcpProxy

from furcate.errors import ConnectionFailed, EngineLost, FurcateError, UsageError
from furcate.lang.backend.address import parse_address
from furcate.lang.backend.zmq import ZmqChannel
from furcate.protocol.keys import key_text, parse_key, read_key
from furcate.protocol.message import Cancel, Finished, Usage
from furcate.runtime.config import resolve
from furcate.runtime.server.reception import plan_of
from furcate.runtime.transport.address import TcpAddress, tcp_address_of
from furcate.runtime.transport.context import open_context
from furcate.runtime.transport.keys import new_client, new_keys
from furcate.runtime.transport.listening import ServerKeys, listen_tcp

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(30)

HERE = TcpAddress("tcp://127.0.0.1:0", "127.0.0.1", 0)


class Listener:
    def __init__(self) -> None:
        self.events: list[object] = []
        self.losses: list[FurcateError] = []

    def deliver(self, events) -> None:
        self.events += events


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    new_keys(folder)
    return folder


def server_keys(folder: Path) -> ServerKeys:
    secret = read_key(folder / "server.secret", "secret", "--server-key")
    return ServerKeys(secret, folder / "clients")


@pytest.fixture
def locked(make_server, keys):
    """Wants keys."""
    return make_server(
        lambda context: listen_tcp(context, HERE, server_keys(keys)), client_keys=keys / "clients"
    )


@pytest.fixture
def plain(make_server):
    return make_server(lambda context: listen_tcp(context, HERE, None), resume_s=20.0)


@pytest.fixture
def connect():
    """Opens channels, and closes them."""
    channels: list[ZmqChannel] = []

    def open_channel(address: str, listener: Listener | None = None, **options) -> ZmqChannel:
        listener = listener or Listener()
        channels.append(ZmqChannel(address, **options))
        channels[-1].open(listener.deliver, listener.losses.append)
        return channels[-1]

    yield open_channel
    for channel in channels:
        channel.close()


# Who is let in -----------------------------------------------------------------------------------


def test_a_client_whose_key_lies_in_the_folder_is_let_in(locked, keys, connect, eventually) -> None:
    channel = connect(
        locked.address, server_key=keys / "server.public", key=str(keys / "client.secret")
    )
    channel.send([Cancel(1)])
    eventually(lambda: [request for _, request in locked.requests] == [Cancel(1)])


def test_keys_may_be_given_as_they_are(locked, keys, connect) -> None:
    connect(
        locked.address,
        server_key=read_key(keys / "server.public", "public", ""),
        key=read_key(keys / "client.secret", "secret", ""),
    )


def test_a_key_that_is_added_counts_at_once_and_one_that_is_taken_away_no_more(
    locked, keys, connect
) -> None:
    secret, public = new_client(keys, "later")
    connect(locked.address, server_key=keys / "server.public", key=secret)
    public.unlink()
    with pytest.raises(ConnectionFailed, match="does not know this client's public key") as caught:
        connect(locked.address, server_key=keys / "server.public", key=secret)
    assert "--client-keys" in str(caught.value)


def test_the_wrong_server_key_is_named(locked, keys, tmp_path, connect) -> None:
    new_keys(tmp_path / "others")
    with pytest.raises(ConnectionFailed, match="server_key is not its key"):
        connect(
            locked.address,
            server_key=tmp_path / "others" / "server.public",
            key=keys / "client.secret",
        )


def test_a_client_without_keys_is_told_that_it_needs_them(locked, connect) -> None:
    with pytest.raises(ConnectionFailed, match="pass server_key and key"):
        connect(locked.address)
    assert locked.connections == []


def test_a_client_with_keys_is_told_that_the_server_takes_none(plain, keys, connect) -> None:
    with pytest.raises(ConnectionFailed, match="it takes no keys"):
        connect(plain.address, server_key=keys / "server.public", key=keys / "client.secret")


def test_a_port_where_nobody_listens_is_named_with_the_remedy(plain, connect) -> None:
    address = plain.address
    plain.close()
    with pytest.raises(ConnectionFailed, match="nobody listens there: nobody answered") as caught:
        connect(address, timeout_s=0.2)
    assert "is `furcate serve` running?" in str(caught.value)
    assert address in str(caught.value)


# Keys --------------------------------------------------------------------------------------------


def test_secret_keys_are_their_owners_alone(tmp_path) -> None:
    written = new_keys(tmp_path / "k")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in written}
    assert modes == {
        "server.secret": 0o600,
        "server.public": 0o644,
        "client.secret": 0o600,
        "client.public": 0o644,
    }


def test_keys_that_are_there_are_never_written_over(tmp_path) -> None:
    new_keys(tmp_path)
    before = (tmp_path / "server.secret").read_text()
    with pytest.raises(UsageError, match="is there already"):
        new_keys(tmp_path)
    with pytest.raises(UsageError, match="is there already"):
        new_client(tmp_path, "client")
    assert (tmp_path / "server.secret").read_text() == before


@pytest.mark.parametrize("name", ["", "../x", "a b", "x.secret"])
def test_a_client_has_a_plain_name(tmp_path, name: str) -> None:
    new_keys(tmp_path)
    with pytest.raises(UsageError, match="a client's name"):
        new_client(tmp_path, name)


def test_a_client_can_be_added_to_keys_that_are_there_only(tmp_path) -> None:
    with pytest.raises(UsageError, match="furcate keys new"):
        new_client(tmp_path, "bob")


def test_what_is_no_key_is_named(tmp_path, keys) -> None:
    with pytest.raises(UsageError, match="neither a file nor a key of 40 characters"):
        read_key("nonsense", "public", "server_key")
    (tmp_path / "f").write_text("nonsense")
    with pytest.raises(UsageError, match="holds no key"):
        read_key(tmp_path / "f", "public", "server_key")
    (tmp_path / "f").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="cannot be read"):
        read_key(tmp_path / "f", "public", "server_key")
    with pytest.raises(UsageError, match=r"server_key must be a public key; .* holds a secret one"):
        read_key(keys / "server.secret", "public", "server_key")
    with pytest.raises(UsageError, match=r"key must be a secret key; .* holds a public one"):
        read_key(keys / "server.public", "secret", "key")


def test_a_secret_key_that_others_can_read_is_refused(tmp_path) -> None:
    (path,) = (p for p in new_keys(tmp_path) if p.name == "client.secret")
    path.chmod(0o640)
    with pytest.raises(UsageError, match=r"has mode 0640 and must be yours alone: run `chmod 600"):
        read_key(path, "secret", "key")


def test_a_key_file_says_what_it_holds() -> None:
    key = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
    assert parse_key(key_text("public", key)) == ("public", key)
    assert parse_key(f"furcate private key {key}") is None


def test_keys_never_show_up_in_a_repr(keys) -> None:
    secret = read_key(keys / "client.secret", "secret", "")
    address = parse_address("tcp://127.0.0.1:1", keys / "server.public", keys / "client.secret")
    assert secret not in repr(address)
    assert server_keys(keys).secret not in repr(server_keys(keys))


# Addresses ---------------------------------------------------------------------------------------


def test_ipv6_and_hostnames_work(make_server, connect) -> None:
    six = make_server(lambda context: listen_tcp(context, tcp_address_of("tcp://[::1]:0"), None))
    assert six.address.startswith("tcp://[::1]:")
    connect(six.address)
    name = make_server(
        lambda context: listen_tcp(context, tcp_address_of("tcp://localhost:0"), None)
    )
    connect(name.address.replace("127.0.0.1", "localhost"))


def test_a_port_that_is_taken_is_named_with_the_remedy(plain) -> None:
    context = open_context()
    with pytest.raises(UsageError, match=r"nothing can listen at .* in use; name another port"):
        listen_tcp(context, tcp_address_of(plain.address), None)
    context.term()


@pytest.mark.parametrize("text", ["tcp://127.0.0.1", "tcp://:7000", "udp://x:1", "tcp://x:70000"])
def test_what_is_no_address_to_listen_at_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--listen must be tcp://HOST:PORT"):
        tcp_address_of(text)


def test_a_host_that_nobody_knows_is_named() -> None:
    with pytest.raises(UsageError, match="cannot be found"):
        tcp_address_of("tcp://no-such-host.invalid:7000")
    with pytest.raises(ConnectionFailed, match=r"'no-such-host\.invalid' cannot be found"):
        parse_address("tcp://no-such-host.invalid:7000")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"listen": "tcp://*:7000"}, "anybody there could run programs: make keys with"),
        ({"listen": "tcp://0.0.0.0:0"}, "--server-key FOLDER/server.secret"),
        ({"listen": "tcp://[::]:0"}, "or listen at tcp://127.0.0.1:0"),
        ({"listen": "tcp://127.0.0.1:1,tcp://*:2"}, r"'tcp://\*:2' can be reached"),
        ({"listen": "tcp://*:0", "client_keys": "/x"}, "--server-key is missing"),
        ({"listen": "tcp://*:0", "server_key": "/x"}, "--client-keys is missing"),
        ({"server_key": "/x", "client_keys": "/x"}, "neither a file nor a key"),
    ],
)
def test_a_network_needs_keys(options, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan_of(resolve(options, {}).server)


def test_keys_need_somebody_to_let_in_and_an_address(keys, tmp_path) -> None:
    secret = str(keys / "server.secret")
    given = {"server_key": secret, "client_keys": str(keys / "clients")}
    with pytest.raises(UsageError, match="for addresses of --listen, and there are none"):
        plan_of(resolve(given, {}).server)
    plan = plan_of(resolve({**given, "listen": "tcp://*:0, tcp://127.0.0.1:0"}, {}).server)
    assert [address.host for address in plan.tcp] == ["*", "127.0.0.1"]
    for folder, message in [(tmp_path, "holds no public key"), (tmp_path / "x", "be a folder")]:
        with pytest.raises(UsageError, match=message):
            plan_of(
                resolve({**given, "client_keys": str(folder), "listen": "tcp://*:0"}, {}).server
            )


def test_loopback_addresses_need_none() -> None:
    plan = plan_of(
        resolve({"listen": "tcp://127.0.0.1:0,tcp://[::1]:7,tcp://127.8.9.1:0"}, {}).server
    )
    assert plan.keys is None


@pytest.mark.parametrize(("server_key", "key"), [("k", None), (None, "k")])
def test_keys_come_in_pairs(server_key, key) -> None:
    with pytest.raises(UsageError, match="belong together"):
        parse_address("tcp://127.0.0.1:7000", server_key, key)
    with pytest.raises(UsageError, match="leave out"):
        parse_address("ipc:///x", server_key, key)


# Connections that break --------------------------------------------------------------------------


def test_a_connection_that_breaks_is_made_again_and_nothing_is_lost(
    plain, connect, eventually
) -> None:
    proxy = TcpProxy(int(plain.address.rpartition(":")[2]), cut_after=10_000)
    listener = Listener()
    channel = connect(f"tcp://127.0.0.1:{proxy.port}", listener)
    (client,) = plain.connections
    for number in range(6_000):
        channel.send([Cancel(number)])
        plain.send(client, Finished(number, Usage()))
    eventually(lambda: len(listener.events) == len(plain.requests) == 6_000, 20)
    assert [event.program for event in listener.events] == list(range(6_000))
    assert [request.program for _, request in plain.requests] == list(range(6_000))
    assert proxy.num_connections > 3
    assert len(plain.connections) == 1
    proxy.close()


def test_a_server_that_was_started_anew_is_a_lost_engine(plain, connect, eventually, make_server):
    port = int(plain.address.rpartition(":")[2])
    proxy = TcpProxy(port)
    listener = Listener()
    connect(f"tcp://127.0.0.1:{proxy.port}", listener)
    plain.close()
    make_server(
        lambda context: listen_tcp(context, TcpAddress("", "127.0.0.1", port), None), resume_s=20.0
    )
    proxy.cut()
    eventually(lambda: listener.losses, 10)
    assert isinstance(listener.losses[0], EngineLost)
    assert "started anew" in str(listener.losses[0])
    proxy.close()


def test_a_client_that_does_not_come_back_in_time_is_gone(make_server, connect, eventually) -> None:
    server = make_server(lambda context: listen_tcp(context, HERE, None), resume_s=0.2)
    proxy = TcpProxy(int(server.address.rpartition(":")[2]))
    connect(f"tcp://127.0.0.1:{proxy.port}")
    proxy.close()
    eventually(lambda: server.departed == server.connections)


def test_a_server_that_says_goodbye_is_not_looked_for(plain, connect, eventually) -> None:
    listener = Listener()
    connect(plain.address, listener)
    plain.on_loop(lambda: plain.socket.say_goodbye("the server has been stopped"))
    eventually(lambda: listener.losses)
    assert isinstance(listener.losses[0], EngineLost)
    assert "has been stopped" in str(listener.losses[0])
