"""How the collector script counts sessions in SMTP protocol logs."""

from __future__ import annotations

from typing import Any

import pytest
from powershell.harness import BATCH, NOT_RUN, POWERSHELL, Planned
from powershell.worlds import LOGS, RECEIVE, exchange, world

if POWERSHELL is None:
    pytest.skip(NOT_RUN, allow_module_level=True)


def tls(
    time: int, protocol: str = "SP_PROT_TLS1_2_SERVER", peer: str = "192.0.2.1:1025", connector: str = r"VM\Default"
) -> str:
    """A line of a log, so many seconds after noon."""
    return (
        f"2026-11-22T12:{time // 60:02}:{time % 60:02}.001Z,{connector},08DB,9,10.0.0.1:25,{peer},*,,"
        f'"TLS protocol {protocol} negotiation succeeded using bulk encryption algorithm CALG_AES_256 with strength 9"'
    )


def log(*lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in lines).encode()


def logged(*lines: str) -> Planned:
    """A run with one receive log."""
    return BATCH.later(exchange(logs={rf"{RECEIVE}\RECV1.LOG": log(*lines)}), usage_megabytes=1)


def receive(run: Planned) -> dict[str, Any]:
    found = run.items("usage")["receive"]
    assert isinstance(found, dict)
    return found


def peers(run: Planned) -> list[tuple[str, str, int]]:
    return [(each["protocol"], each["address"], each["sessions"]) for each in receive(run)["peers"]]


TOKENS = {
    "SP_PROT_TLS1_3_SERVER": "TLS1_3",
    "SP_PROT_TLS1_2_SERVER": "TLS1_2",
    "SP_PROT_TLS1_1_CLIENT": "TLS1_1",
    "SP_PROT-TLS1_0_CLIENT": "TLS1_0",
    "SP_PROT_SSL3_SERVER": "SSL3",
    "SP_PROT_PCT1_SERVER": "PCT1",
    "4096": "4096",
}
PEERS = {
    "198.51.100.7:25": "198.51.100.7",
    "[2001:db8::25]:25": "[2001:db8::25]",
    "[fe80::1%12]:50211": "[fe80::1%12]",
}
CONNECTORS = (r"VM\Default", '"Printers, all floors"', '"a ""quoted"", one"', "", "\xdcberall", '"25:25,"')


class TestLogLines:
    BY_TOKEN = logged(*(tls(number, token) for number, token in enumerate(TOKENS)))
    BY_PEER = logged(*(tls(number, peer=peer) for number, peer in enumerate(PEERS)))
    BY_CONNECTOR = logged(*(tls(number, connector=each) for number, each in enumerate(CONNECTORS)))
    OTHERS = logged(
        "#Software: Microsoft Exchange Server",
        "#Fields: date-time,SP_PROT_TLS1_0_SERVER",
        "",
        ",SP_PROT_TLS1_0_SERVER",
        "no comma SP_PROT_TLS1_0_SERVER",
        r"2026-11-22T12:00:00.000Z,VM\Default,08DB,1,10.0.0.1:25,192.0.2.1:1025,+,,",
        r"2026-11-22T12:00:01.000Z,VM\Default,08DB,2,10.0.0.1:25,192.0.2.1:1025,*,,TLS protocol Zero negotiation",
        r"2026-11-22T12:00:02.000Z,VM\Default,08DB,3,10.0.0.1:25,192.0.2.1:1025,*,,TLS negotiation failed with error X",
        r"2026-11-22T12:00:03.000Z,VM\Default,08DB,4,10.0.0.1:25,192.0.2.1:1025,<,sp_prot_tls1_0_server,",
    )
    CLIENTS_WORDS = logged(
        *(
            rf"2026-11-22T12:00:00.000Z,VM\Default,08DB,4,10.0.0.1:25,192.0.2.1:1025,{event}"
            for event in (
                "<,EHLO SP_PROT_TLS1_0_SERVER,",
                '<,"TLS protocol SP_PROT_TLS1_0_SERVER negotiation succeeded",',
                "*,,a client said TLS protocol SP_PROT_TLS1_0_SERVER negotiation",
            )
        ),
        "2026-11-22T12:00:00.000Z,SP_PROT_TLS1_2_SERVER",
        "yesterday," + tls(1).partition(",")[2],
    )
    BRIEF = logged(
        r"2026-11-22T12:00:00.000Z,VM\Default,08DB,4,10.0.0.1:25,192.0.2.1:1025,*,,SP_PROT_TLS1_2_SERVER",
        r"2026-11-22T12:00:01.000Z,VM\Default,08DB,4,10.0.0.1:25,192.0.2.1:1025,*,SP_PROT_TLS1_0_SERVER,",
        r"2026-11-22T12:00:02.000Z,VM\Default,08DB,4,10.0.0.1:25,192.0.2.1:1025,*,SP_PROT_TLS1_1_SERVER.evil.test,names",
        r"2026-11-22T12:00:03.000Z,VM\Default,08DB,4,10.0.0.1:25,192.0.2.1:1025,*,4096 negotiation@evil.test,Zone",
    )

    def test_sessions_are_counted_by_token(self) -> None:
        """With hyphens and underscores, and numbers where Exchange has no name."""
        assert receive(self.BY_TOKEN)["sessions"] == dict.fromkeys(TOKENS.values(), 1)

    def test_peers_lose_their_port(self) -> None:
        assert sorted(peers(self.BY_PEER)) == sorted(("TLS1_2", each, 1) for each in PEERS.values())

    def test_a_connectors_name_may_hold_commas(self) -> None:
        assert peers(self.BY_CONNECTOR) == [("TLS1_2", "192.0.2.1", len(CONNECTORS))]

    def test_other_lines_are_no_sessions(self) -> None:
        found = receive(self.OTHERS)

        assert (found["sessions"], found["peers"]) == ({}, [])
        assert (found["from"], found["until"]) == ("2026-11-22T12:00:00.000Z", "2026-11-22T12:00:03.000Z")

    def test_nobody_can_talk_a_session_into_being(self) -> None:
        """What a client says stands in lines of another event, or not where Exchange's own words begin."""
        found = receive(self.CLIENTS_WORDS)

        assert (found["sessions"], found["peers"]) == ({}, [])

    def test_the_version_alone_is_enough(self) -> None:
        """In data or in context, where it stands by itself."""
        assert receive(self.BRIEF)["sessions"] == {"TLS1_0": 1, "TLS1_2": 1}


FREQUENT = {f"192.0.2.{number}": number for number in range(1, 26)}


class TestPeers:
    RUN = logged(
        *(tls(0, "SP_PROT_TLS1_0_SERVER", f"{peer}:1") for peer, times in FREQUENT.items() for _ in range(times)),
        *(tls(0, peer=f"198.51.100.{number}:1") for number in (1, 2, 2, 2)),
    )

    def test_twenty_of_each_version_are_named(self) -> None:
        """Those with most sessions; the least frequent of the newer version among them."""
        most = sorted(FREQUENT.items(), key=lambda item: -item[1])[:20]
        newer = [("TLS1_2", "198.51.100.2", 3), ("TLS1_2", "198.51.100.1", 1)]

        assert [each for each in peers(self.RUN) if each[0] == "TLS1_0"] == [("TLS1_0", *each) for each in most]
        assert [each for each in peers(self.RUN) if each[0] == "TLS1_2"] == newer

    def test_the_most_frequent_come_first(self) -> None:
        sessions = [each[2] for each in peers(self.RUN)]

        assert sessions == sorted(sessions, reverse=True)

    def test_all_are_counted(self) -> None:
        assert receive(self.RUN)["sessions"] == {"TLS1_0": sum(FREQUENT.values()), "TLS1_2": 4}


LIMIT = 1 << 20
FOLDERS = {
    "frontend": rf"{LOGS}\FrontEnd\ProtocolLog\SmtpReceive",
    "hub": rf"{LOGS}\Hub\ProtocolLog\SmtpReceive",
    "edge": rf"{LOGS}\Edge\ProtocolLog\SmtpReceive",
    "2010": rf"{LOGS}\ProtocolLog\SmtpReceive",
}


def padded(size: int, *lines: str) -> bytes:
    """A log of that size that ends with these lines; before, there is nothing but remarks."""
    end = log(*lines)
    count, rest = divmod(size - len(end), 8192)
    remarks = ["#" * 8190] * count + (["#" * (rest - 2)] if rest > 1 else [])
    assert rest != 1
    return log(*remarks) + end


def files(**contents: bytes) -> Planned:
    """A run with these receive logs, the older ones first."""
    return BATCH.later(
        exchange(logs={rf"{RECEIVE}\{name}.LOG": content for name, content in contents.items()}), usage_megabytes=1
    )


class TestLogFiles:
    NOTHING = BATCH.later(exchange(), usage_megabytes=1)
    NO_EXCHANGE = BATCH.later(world(), usage_megabytes=1)
    EMPTY_FOLDER = BATCH.later(exchange(folders=(RECEIVE,)), usage_megabytes=1)
    SEVERAL = BATCH.later(
        exchange(
            logs={
                rf"{FOLDERS['hub']}\RECV9.LOG": log(tls(0)),
                rf"{FOLDERS['2010']}\RECV8.LOG": log(tls(300, "SP_PROT_TLS1_0_SERVER")),
                rf"{RECEIVE}\RECV7.LOG": log(tls(30), tls(20)),
                rf"{RECEIVE}\notes.txt": log(tls(900, "SP_PROT_TLS1_1_SERVER")),
                rf"{LOGS}\Hub\ProtocolLog\SmtpSend\SEND1.LOG": log(tls(40, "SP_PROT_TLS1_2_CLIENT")),
            },
            folders=(FOLDERS["edge"],),
        ),
        usage_megabytes=1,
    )
    FITS = files(a=log(tls(0)), b=padded(LIMIT - len(log(tls(0))), tls(1)))
    ONE_TOO_MANY = files(a=padded(LIMIT + 1, tls(1)))
    CUT = files(a=log(tls(0), tls(1)) + padded(LIMIT - len(log(tls(1))) + 10, tls(2)))
    OLDER_CUT = files(
        a=log(tls(0, "SP_PROT_SSL3_SERVER")),
        b=log(tls(1, "SP_PROT_TLS1_0_SERVER"), tls(2, "SP_PROT_TLS1_1_SERVER")),
        c=padded(LIMIT - len(log(tls(2))) - 5, tls(3)),
    )
    EXHAUSTED = files(a=log(tls(0)), b=padded(LIMIT, tls(1)))
    NEWEST_BY_CLOCK = files(z=padded(LIMIT, tls(0)), a=padded(LIMIT, tls(1, "SP_PROT_TLS1_1_SERVER")))
    EMPTY_FILE = files(a=b"", b=log(tls(1)))
    PRUNED = BATCH.later(
        exchange(
            logs={rf"{RECEIVE}\A.LOG": log(tls(0)), rf"{RECEIVE}\B.LOG": log(tls(1, "SP_PROT_TLS1_0_SERVER"))},
            pruned=(rf"{RECEIVE}\A.LOG",),
        ),
        usage_megabytes=1,
    )
    NO_LINE_END = files(a=log(tls(1)).rstrip())
    LF_AND_BOM = files(a=b"\xef\xbb\xbf" + log("#Software", tls(1)).replace(b"\r\n", b"\n"))

    def test_without_exchange_there_are_no_logs(self) -> None:
        nothing = {
            "directories": [], "files": 0, "bytes": 0, "truncated": False, "from": None, "until": None, "sessions": {},
            "peers": [],
        }  # fmt: skip

        assert self.NO_EXCHANGE.items("usage") == {"receive": nothing, "send": nothing}
        assert self.NOTHING.items("usage") == {"receive": nothing, "send": nothing}

    def test_an_empty_folder_is_a_folder(self) -> None:
        found = receive(self.EMPTY_FOLDER)

        assert (found["directories"], found["files"]) == ([RECEIVE], 0)

    def test_all_folders_are_read(self) -> None:
        """Log files alone; each side for itself."""
        found = receive(self.SEVERAL)
        send = self.SEVERAL.items("usage")["send"]

        assert found["directories"] == list(FOLDERS.values())
        assert found["files"] == 3
        assert found["sessions"] == {"TLS1_0": 1, "TLS1_2": 3}
        assert (found["from"], found["until"]) == ("2026-11-22T12:00:00.001Z", "2026-11-22T12:05:00.001Z")
        assert (send["files"], send["sessions"]) == (1, {"TLS1_2": 1})

    def test_what_fits_is_read_whole(self) -> None:
        found = receive(self.FITS)

        assert (found["files"], found["bytes"], found["truncated"]) == (2, LIMIT, False)
        assert found["sessions"] == {"TLS1_2": 2}

    def test_one_byte_more_is_too_much(self) -> None:
        found = receive(self.ONE_TOO_MANY)

        assert (found["files"], found["bytes"], found["truncated"]) == (1, LIMIT, True)
        assert found["sessions"] == {"TLS1_2": 1}

    def test_a_line_that_was_cut_does_not_count(self) -> None:
        """Although what is left of it names a version."""
        found = receive(self.CUT)

        assert (found["bytes"], found["truncated"], found["sessions"]) == (LIMIT, True, {"TLS1_2": 1})
        assert found["from"] == found["until"] == "2026-11-22T12:00:02.001Z"

    def test_the_end_of_an_older_file_uses_what_is_left(self) -> None:
        """And the files that are older still are left alone."""
        found = receive(self.OLDER_CUT)

        assert (found["files"], found["bytes"], found["truncated"]) == (2, LIMIT, True)
        assert found["sessions"] == {"TLS1_1": 1, "TLS1_2": 1}

    def test_nothing_left_is_nothing_read(self) -> None:
        found = receive(self.EXHAUSTED)

        assert (found["files"], found["bytes"], found["truncated"]) == (1, LIMIT, True)
        assert found["from"] == "2026-11-22T12:00:01.001Z"

    def test_the_newest_file_is_the_one_written_last(self) -> None:
        """Whatever its name is."""
        assert receive(self.NEWEST_BY_CLOCK)["sessions"] == {"TLS1_1": 1}

    def test_an_empty_file_counts_as_read(self) -> None:
        found = receive(self.EMPTY_FILE)

        assert (found["files"], found["truncated"], found["sessions"]) == (2, False, {"TLS1_2": 1})

    def test_a_file_that_exchange_deleted_meanwhile_is_passed_by(self) -> None:
        found = receive(self.PRUNED)

        assert (found["files"], found["sessions"]) == (1, {"TLS1_0": 1})

    def test_line_ends_do_not_matter(self) -> None:
        assert receive(self.NO_LINE_END)["sessions"] == {"TLS1_2": 1}
        assert receive(self.LF_AND_BOM)["sessions"] == {"TLS1_2": 1}
