import pytest
from hypothesis import given
from hypothesis import strategies as st

from merchantguard.data.domains import host_of, registered_domain


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        ("https://www.shop.example.co.uk/x?y=1#z", "example.co.uk"),
        ("WWW.Example.COM.", "example.com"),
        ("example.com:8443/path", "example.com"),
        ("//cdn.example.com/x", "example.com"),
        ("user:secret@shop.example.com", "example.com"),
        ("one.myshopify.com", "one.myshopify.com"),
        ("www.one.myshopify.com", "one.myshopify.com"),
        ("https://www.bücher.de/", "xn--bcher-kva.de"),
        ("www.xn--bcher-kva.de", "xn--bcher-kva.de"),
        ("shop.公司.cn", "shop.xn--55qx5d.cn"),
        ("co.uk", "co.uk"),
        ("localhost:8000", "localhost"),
        ("http://127.0.0.1/x", "127.0.0.1"),
        ("http://[2001:db8::1]:80/", "2001:db8::1"),
    ],
)
def test_the_registered_domain(address: str, domain: str) -> None:
    assert registered_domain(address) == domain


@pytest.mark.parametrize(
    "address", ["", "   ", "https://", "a shop in town", "http://[::1", "a..b", "x" * 64 + ".com", "-a.com"]
)
def test_what_is_no_address_has_none(address: str) -> None:
    assert registered_domain(address) is None


@given(st.text(max_size=60))
def test_any_text_gives_a_host_or_none_and_the_domain_ends_the_host(text: str) -> None:
    host, domain = host_of(text), registered_domain(text)
    assert (host is None) == (domain is None)
    if host is not None and domain is not None:
        assert host.endswith(domain)
        assert registered_domain(domain) == domain
