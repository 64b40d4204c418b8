"""A question to every process of a service."""

import httpx2

from caravan.errors import ServiceUnavailable
from tests.caravan.client.caller_case import ASK, QUESTION, Answer, Question, answer_well, serve_remote


async def test_every_process_is_asked_once_and_this_one_without_a_request() -> None:
    async def answer(question: Question) -> Answer:
        return Answer(text="here")

    def serve(request: httpx2.Request) -> httpx2.Response:
        if request.url.host == "pets-1":
            raise httpx2.ConnectError("refused")
        return answer_well(request)

    async with serve_remote(serve, endpoints=3, local={ASK: answer}) as remote:
        remote.call._address = "http://pets-2"
        answers = await remote.call.call_each_process(ASK, QUESTION)
    assert answers.keys() == {"", "http://pets-0", "http://pets-1"}
    assert (answers[""], answers["http://pets-0"]) == (Answer(text="here"), Answer(text="because"))
    assert isinstance(answers["http://pets-1"], ServiceUnavailable)
    assert sorted(request.url.host for request in remote.requests) == ["pets-0", "pets-1"], "each once"


async def test_a_process_that_is_left_out_is_not_asked_and_that_is_said() -> None:
    async with serve_remote(answer_well, endpoints=2) as remote:
        breaker = remote.discovery.pool.list_endpoints()[0].breaker
        for _ in range(breaker.consecutive):
            breaker.record_failure()
        answers = await remote.call.call_each_process(ASK, QUESTION)
        refusal = answers["http://pets-0"]
        assert isinstance(refusal, ServiceUnavailable) and "5 calls in a row failed" in refusal.detail
        assert answers["http://pets-1"] == Answer(text="because")
        assert len(remote.requests) == 1
