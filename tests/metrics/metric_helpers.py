"""Random trials with few distinct scores, so that most have ties within and across classes."""

import numpy as np
from hypothesis import strategies as st


@st.composite
def trials(draw):
    size = draw(st.integers(2, 40))
    score = draw(st.lists(st.integers(-4, 4), min_size=size, max_size=size))
    target = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    target[0], target[1] = True, False
    return np.array(score, float), np.array(target)
