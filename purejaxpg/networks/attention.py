"""A small transformer policy: a cell that attends to the last few observations of an episode."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from purejaxpg.arguments import Count, check_fields


def check_heads(module: Any) -> None:
    """Check the fields of a module, and that its heads share its `features` evenly.

    Args:
      module: with fields `features` and `num_heads`.

    Raises:
      TypeError: a field is not of the kind that its annotation says.
      ValueError: a field is out of range, or `features` is no multiple of `num_heads`.
    """
    check_fields(module)
    if module.features % module.num_heads:
        raise ValueError(
            f"features={module.features} must be a multiple of num_heads={module.num_heads}."
        )


class AttentionCell(nn.RNNCellBase):
    """One transformer block over the last `window` inputs, as a recurrent cell: those inputs are its memory.

    With x_t the input mapped to `features` and LN layer normalisation,

        h = x_t + attention(query LN(x_t) + p_0, keys and values LN(x_s) + p_(t-s), s > t - window)
        output = LN(h + MLP(LN(h)))

    (Vaswani et al. 2017, arXiv:1706.03762, normalised first: Xiong et al. 2020, arXiv:2002.04745), p a learnt
    code of how long ago, and nothing from before the memory was last reset. The block queries at the
    present step only, so a step costs a pass over its window; gradients flow through the window as
    through any memory, and stop where a sequence is cut.

    `memory [N, window - 1, features + 1], input [N, ...] -> memory, output [N, features]`; the last column of
    memory is 1 where there is an input.

    Attributes:
      features: size of an entry and of the output, a multiple of `num_heads`.
      window: number of inputs attended to, the present one included; at least 1.
      num_heads: number of attention heads.

    Raises:
      TypeError: a field is no integer.
      ValueError: a field is below 1, or `features` is no multiple of `num_heads`.

    Example:
      >>> import jax
      >>> import purejaxpg as pg
      >>> cell = pg.AttentionCell(features=8, window=4)
      >>> cell.initialize_carry(jax.random.key(0), (2, 3)).shape
      (2, 3, 9)
    """

    features: Count
    window: Count = 16
    num_heads: Count = 4

    def __post_init__(self) -> None:
        check_heads(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, carry: jax.Array, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """One step.

        Args:
          carry: `[N, window - 1, features + 1]`, the memory before the step, the latest input last.
          inputs: `[N, ...]`, the present input.

        Returns:
          The memory after the step and the output `[N, features]`.
        """
        now = nn.Dense(self.features)(inputs)
        entry = jnp.concatenate([now, jnp.ones((len(now), 1))], axis=-1)
        entries = jnp.concatenate([carry, entry[:, None]], axis=1)
        shape = (self.window, self.features)
        age_code = self.param("age_code", nn.initializers.normal(0.02), shape)
        coded = nn.LayerNorm()(entries[..., :-1]) + age_code[::-1]
        attended = nn.MultiHeadDotProductAttention(self.num_heads)(
            coded[:, -1:], coded, mask=(entries[..., -1] > 0)[:, None, None, :]
        )
        hidden = now + attended[:, 0]
        wide = nn.gelu(nn.Dense(4 * self.features)(nn.LayerNorm()(hidden)))
        output = nn.LayerNorm()(hidden + nn.Dense(self.features)(wide))
        return entries[:, 1:], output

    @nn.nowrap
    def initialize_carry(self, rng: jax.Array, input_shape: tuple[int, ...]) -> jax.Array:
        """The memory before the first input: no entry counts.

        Args:
          rng: a key, not used; flax's cells take one.
          input_shape: shape of the inputs, `(*batch, size)`.

        Returns:
          Zeros `[*batch, window - 1, features + 1]`.
        """
        return jnp.zeros((*input_shape[:-1], self.window - 1, self.features + 1))

    @property
    def num_feature_axes(self) -> int:
        """Number of axes of an input that are not of the batch, which flax asks a cell for."""
        return 1
