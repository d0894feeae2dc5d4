"""The losses that the pairs are trained with, written out as plain functions of log-probabilities.

The trainer computes them through TRL; these say what it computes, and the tests hold the two equal. The rule that must not
break: nothing here is averaged over the batch, and each function names its source, so that a reader can check it by hand.

Shapes: B pairs, T positions. Per-token log-probabilities and masks are (B, T), the mask is 1 on the answer's own tokens (an
end token counts if it is stored) and 0 on the prompt and on padding. Per-answer values are (B,). Logarithms are natural.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


@dataclass(frozen=True, slots=True)
class Side:
    """One side of the pairs: the same tokens as the policy and as the reference see them. All are (B, T)."""

    policy: Tensor
    reference: Tensor
    mask: Tensor

    @property
    def log_ratios(self) -> Tensor:
        """log π(y_t) - log π_ref(y_t) on the answer, 0 elsewhere."""
        return (self.policy - self.reference) * self.mask


def total(values: Tensor, mask: Tensor) -> Tensor:
    """(B,): the sum over the answer's tokens."""
    return (values * mask).sum(dim=1)


def mean(values: Tensor, mask: Tensor) -> Tensor:
    """(B,): the mean over the answer's tokens; 0 for an answer without any."""
    return total(values, mask) / mask.sum(dim=1).clamp(min=1)


def length_normalised_dpo(chosen: Side, rejected: Side, beta: float) -> Tensor:
    """(B,): -log σ(β (mean_t r(y_w) - mean_t r(y_l))), where r is the log-ratio of a token.

    Tülu 3 (Lambert et al. 2024, arXiv:2411.15124, the equation of its section on length-normalised DPO; `dpo_norm` in
    allenai/open-instruct), β = 5 there. In TRL: `loss_type="sigmoid_norm"`.
    """
    margin = mean(chosen.log_ratios, chosen.mask) - mean(rejected.log_ratios, rejected.mask)
    return -logsigmoid(beta * margin)


def dpo(chosen: Side, rejected: Side, beta: float) -> Tensor:
    """(B,): -log σ(β (Σ_t r(y_w) - Σ_t r(y_l))).

    Rafailov et al. 2023, arXiv:2305.18290, equation 7. In TRL: `loss_type="sigmoid"`.
    """
    margin = total(chosen.log_ratios, chosen.mask) - total(rejected.log_ratios, rejected.mask)
    return -logsigmoid(beta * margin)


def simpo(chosen: Side, rejected: Side, beta: float, gamma: float) -> Tensor:
    """(B,): -log σ(β mean_t log π(y_w) - β mean_t log π(y_l) - γ). The reference is not looked at.

    Meng, Xia, Chen 2024, arXiv:2405.14734, equation 6; its repository takes β = 2 and γ = β/4 and more.
    """
    margin = mean(chosen.policy, chosen.mask) - mean(rejected.policy, rejected.mask)
    return -logsigmoid(beta * margin - gamma)


def sft(chosen: Side) -> Tensor:
    """A scalar: the mean of -log π over all chosen tokens of the batch, long answers counting for more.

    The control: what the chosen answers teach without the rejected ones. In TRL: `loss_type="sft"`.
    """
    return -(chosen.policy * chosen.mask).sum() / chosen.mask.sum().clamp(min=1)


def apo_zero_normalised(chosen: Side, rejected: Side, beta: float) -> Tensor:
    """(B,): (1 - σ(β mean_t r(y_w))) + σ(β mean_t r(y_l)): each side against the reference, not against the other.

    D'Oosterlinck et al. 2024, arXiv:2408.06266, equation 7, with the log-ratio per token in the place of the sum.
    """
    up, down = beta * mean(chosen.log_ratios, chosen.mask), beta * mean(rejected.log_ratios, rejected.mask)
    return (1 - torch.sigmoid(up)) + torch.sigmoid(down)


def relative_and_absolute(chosen: Side, rejected: Side, beta: float, relative: float, absolute: float) -> Tensor:
    """(B,): `relative` · length_normalised_dpo + `absolute` · apo_zero_normalised.

    A member of the family that Liquid AI's LFM2 report (arXiv:2511.23404) describes: direct alignment on length-normalised
    log-ratios, from a term on the margin between the sides and one on each side by itself. That the terms are these two
    functions is our reading. The weights, the β and the mixture that LFM2 was trained with are not public as far as we
    know: nothing here claims to be that objective, and no recipe trains with it.
    """
    return relative * length_normalised_dpo(chosen, rejected, beta) + absolute * apo_zero_normalised(
        chosen, rejected, beta
    )


def kl_per_token(side: Side) -> Tensor:
    """(B,): mean_t (e^r - 1 - r), an estimate of KL(π_ref ‖ π) per token on answers that the reference wrote.

    Never negative, unlike the plain -mean r (Schulman 2020, "Approximating KL divergence", the estimator k3 there).
    """
    return _k3(side.log_ratios, side.mask)


def kl_per_token_of_own(side: Side) -> Tensor:
    """(B,): mean_t (e^-r - 1 + r), the same estimate of KL(π ‖ π_ref) per token on answers that the policy wrote.

    The other one may not be asked of them: where the reference finds unlikely what the policy says, e^r has no bound.
    """
    return _k3(-side.log_ratios, side.mask)


def _k3(ratios: Tensor, mask: Tensor) -> Tensor:
    return mean(torch.expm1(ratios) - ratios, mask)
