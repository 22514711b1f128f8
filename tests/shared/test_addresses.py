import pytest

from imts_shared.addresses import is_internal, is_named_internal


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "169.254.169.254", "100.64.0.1", "168.63.129.16", "224.0.0.1", "255.255.255.255",
        "::", "::1", "fd00::1", "fe80::1", "fe80::1%eth0", "ff02::1",
        "fec0::1", "feff::1", "100::1", "64:ff9b:1::a00:1", "64:ff9b:1:a00:0:100::", "4000::1", "::ffff:1:0:1",
        "::ffff:10.0.0.1", "::ffff:0:127.0.0.1", "::ffff:0:a9fe:a9fe", "::127.0.0.1", "64:ff9b::7f00:1",
        "64:ff9b::168.63.129.16", "2002:7f00:1::1", "2002:a9fe:a9fe::", "2001:0:808:808:0:0:80ff:fffe",
        "2001:0:a00:1::f7f7:f7f7", "2606:4700::5efe:10.0.0.1", "2606:4700::200:5efe:127.0.0.1",
    ],
)  # fmt: skip
def test_inside(address: str) -> None:
    assert is_internal(address)
    assert is_named_internal(address)


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8", "93.184.215.14", "2606:4700::1111", "2a00:1450:4001:800::200e", "::ffff:8.8.8.8",
        "64:ff9b::808:808", "2002:808:808::1", "2606:4700::5efe:8.8.8.8",
    ],
)  # fmt: skip
def test_outside(address: str) -> None:
    assert not is_internal(address)
    assert not is_named_internal(address)
