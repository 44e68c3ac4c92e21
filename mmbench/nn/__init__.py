"""The pieces that methods share, so that two methods differ in what their papers differ in.

attention.py    Transformers over packed tokens: encoders, crossmodal ones, decoders
blocks.py       the halves of their layers, each with its gradient written out
attend.py       attention itself, and its gradient
grouped.py      linear layers and norms of several networks at once
packing.py      how sequences are laid out without padding
encoder.py      the front end: all modalities' sequences to one vector each
recurrent.py    LSTM and GRU that padding does not reach
basic.py        dropout, linear layers, positions
information.py  a bound of mutual information
products.py     products of matrices on a CPU
kernels.py      loops on a CPU, compiled; recurrent_kernels.py and gru.py have those of LSTM and GRU
"""

from mmbench.nn.attention import Decoder as Decoder
from mmbench.nn.attention import Encoder as Encoder
from mmbench.nn.attention import Memory as Memory
from mmbench.nn.basic import Dropout as Dropout
from mmbench.nn.basic import attended as attended
from mmbench.nn.basic import last_valid as last_valid
from mmbench.nn.basic import linear as linear
from mmbench.nn.basic import mlp as mlp
from mmbench.nn.basic import positional_encoding as positional_encoding
from mmbench.nn.encoder import FrontEnd as FrontEnd
from mmbench.nn.grouped import GroupedFeedForward as GroupedFeedForward
from mmbench.nn.grouped import GroupedLinear as GroupedLinear
from mmbench.nn.information import mutual_information as mutual_information
from mmbench.nn.packing import Sequences as Sequences
from mmbench.nn.packing import between as between
from mmbench.nn.packing import lay as lay
from mmbench.nn.packing import stack_padded as stack_padded
from mmbench.nn.products import affine as affine
from mmbench.nn.products import bmm as bmm
from mmbench.nn.recurrent import Recurrent as Recurrent
from mmbench.nn.recurrent import Steps as Steps
from mmbench.nn.recurrent import read_last as read_last
from mmbench.nn.recurrent import valid_first as valid_first
