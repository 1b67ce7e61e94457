import pytest
import torch
from torch import nn

from unveil.models.networks.resnet20 import ResNet20
from unveil.models.networks.vgg16_bn import Vgg16Bn
from unveil.models.training.objectives import fold_batch_norm


def _with_random_statistics(network):
    """A network whose batch normalisations have non-trivial statistics and weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, std=0.1)
                for positive in (module.running_var, module.weight):
                    nn.init.uniform_(positive, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.1)
    return network.eval()


@pytest.mark.parametrize("make", [lambda: ResNet20(10, 4), lambda: Vgg16Bn(10)], ids=["resnet20", "vgg16-bn"])
def test_a_folded_network_gives_the_same_output_without_normalisations(make):
    network, images = _with_random_statistics(make()), torch.rand(2, 3, 32, 32) * 2 - 1
    folded_network = fold_batch_norm(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded_network.modules())
    with torch.inference_mode():
        assert torch.allclose(folded_network(images), network(images), rtol=1e-4, atol=1e-5)
        assert torch.allclose(folded_network.features(images), network.features(images), rtol=1e-4, atol=1e-5)


def test_the_network_itself_stays_as_it_is_and_what_two_share_stays_shared():
    network = _with_random_statistics(ResNet20(10, 4))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    one, other = fold_batch_norm(nn.ModuleList([network, nn.Sequential(network.stem)]))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert other[0] is one.stem
    assert isinstance(network.stem[1], nn.BatchNorm2d)
