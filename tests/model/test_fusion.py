import pytest
import torch

from sightline.errors import SightlineError
from sightline.model.fusion import scatter_features

IS_IMAGE = torch.tensor([[False, True, True, False], [True, False, False, True]])


def test_features_fill_the_placeholders_in_reading_order() -> None:
    embeddings = torch.zeros(2, 4, 3)
    features = torch.arange(1.0, 13.0).reshape(2, 2, 3)
    fused = scatter_features(embeddings, features, IS_IMAGE)
    expected = torch.tensor([[0.0, 1.0, 4.0, 0.0], [7.0, 0.0, 0.0, 10.0]])
    torch.testing.assert_close(fused[..., 0], expected)
    torch.testing.assert_close(scatter_features(embeddings, features.reshape(4, 3), IS_IMAGE), fused)
    assert not embeddings.any()


def test_gradients_reach_both_inputs_and_nothing_else() -> None:
    embeddings = torch.randn(2, 4, 3, requires_grad=True)
    features = torch.randn(2, 2, 3, requires_grad=True)
    weights = torch.randn(2, 4, 3)
    (scatter_features(embeddings, features, IS_IMAGE) * weights).sum().backward()
    assert embeddings.grad is not None
    assert features.grad is not None
    torch.testing.assert_close(embeddings.grad, weights.masked_fill(IS_IMAGE[..., None], 0))
    torch.testing.assert_close(features.grad.reshape(4, 3), weights[IS_IMAGE])


def test_features_take_the_type_of_the_embeddings() -> None:
    fused = scatter_features(torch.zeros(2, 4, 3, dtype=torch.bfloat16), torch.ones(4, 3), IS_IMAGE)
    assert fused.dtype == torch.bfloat16


@pytest.mark.parametrize("given", [0, 3, 5])
def test_a_wrong_number_of_features_is_refused_with_both_numbers(given: int) -> None:
    with pytest.raises(SightlineError, match=rf"4 image placeholders .*row 0: 2, row 1: 2.* {given} image features"):
        scatter_features(torch.zeros(2, 4, 3), torch.zeros(given, 3), IS_IMAGE)


def test_the_message_names_the_samples_and_the_images() -> None:
    with pytest.raises(SightlineError) as caught:
        scatter_features(torch.zeros(2, 4, 3), torch.zeros(3, 2, 3), IS_IMAGE, ids=["dog-1", "cat-2"])
    assert 'sample "dog-1": 2, sample "cat-2": 2' in str(caught.value)
    assert "3 images x 2 = 6 image features" in str(caught.value)
