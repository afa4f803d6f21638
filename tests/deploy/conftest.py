import pytest

from tests.deploy.rendered import OVERLAYS, Overlay


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> Overlay:
    return Overlay(request.param)


@pytest.fixture
def production() -> Overlay:
    return Overlay("production")


@pytest.fixture
def dev() -> Overlay:
    return Overlay("dev")
