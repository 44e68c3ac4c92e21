"""The pieces that methods share, so that two methods differ in what their papers differ in.

basic.py      dropout, linear layers, positions
encoder.py    a sequence to a vector, and a whole sample to one vector per modality
recurrent.py  LSTM and GRU that padding does not reach
"""

from mmbench.nn.basic import Dropout as Dropout
from mmbench.nn.basic import last_valid as last_valid
from mmbench.nn.basic import linear as linear
from mmbench.nn.basic import mlp as mlp
from mmbench.nn.basic import positional_encoding as positional_encoding
from mmbench.nn.encoder import FrontEnd as FrontEnd
from mmbench.nn.encoder import SequenceEncoder as SequenceEncoder
from mmbench.nn.encoder import TemporalConvolution as TemporalConvolution
from mmbench.nn.encoder import TransformerLayer as TransformerLayer
from mmbench.nn.recurrent import Recurrent as Recurrent
from mmbench.nn.recurrent import read_last as read_last
from mmbench.nn.recurrent import valid_first as valid_first
