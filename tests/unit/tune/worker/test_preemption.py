"""Who is asked whether a node is taken away, and what follows from the answer."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import ray

from otter_ray.tune.worker import preemption
from tests.support.commands import wait_for


class Metadata(BaseHTTPRequestHandler):
    """EC2's metadata service (IMDSv2), as its documentation describes it."""

    notice = False

    def do_PUT(self):
        self.answer(200 if self.path == "/latest/api/token" else 404, b"token")

    def do_GET(self):
        known = self.path == "/latest/meta-data/spot/instance-action" and self.notice
        allowed = self.headers["X-aws-ec2-metadata-token"] == "token"
        self.answer(401 if not allowed else 200 if known else 404, b'{"action": "terminate"}')

    def answer(self, status, body):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        """Quiet."""


def test_ec2_is_asked_for_its_spot_notice(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(preemption, "EC2", f"http://127.0.0.1:{server.server_port}/latest")
    assert not preemption.ec2_notice()
    monkeypatch.setattr(Metadata, "notice", True)
    assert preemption.ec2_notice()
    server.shutdown()
    server.server_close()
    assert not preemption.ec2_notice()


@pytest.mark.parametrize(("accepted", "raises"), [(True, False), (False, False), (False, True)])
def test_a_spot_notice_saves_the_trial_whether_ray_drains_or_not(monkeypatch, capsys, accepted, raises):
    asked = []

    def drain_node(node, message, deadline):
        asked.append(node)
        if raises:
            raise RuntimeError("the control service is away")
        return accepted, "" if accepted else "no"

    context = SimpleNamespace(get_node_id=lambda: "here", gcs_address="")
    monkeypatch.setattr(preemption, "SECONDS", 0.01)
    monkeypatch.setattr(preemption, "_ask", lambda *words: "token")
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(preemption, "drain_for_preemption", drain_node)
    with preemption.preemption_notice() as notice:
        assert notice.wait(10)
        wait_for(lambda: asked)
    assert asked == ["here"]
    wait_for(lambda: accepted or "will not drain it" in capsys.readouterr().out)


def test_a_control_service_that_is_away_for_a_while_is_asked_again(monkeypatch):
    answers = iter([RuntimeError("away"), [], ["here"]])

    def draining_nodes():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(preemption, "SECONDS", 0.01)
    monkeypatch.setattr(preemption, "_ask", lambda *words: None)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "here"))
    monkeypatch.setattr(preemption, "draining_nodes", draining_nodes)
    with preemption.preemption_notice() as notice:
        assert notice.wait(10)
