"""Fine-tuning in closed form: the network linearised around its foundation, solved by evidence.

gradients of energies by the parameters → weak prior → evidence and solution → tangent potential →
structures to distil from.
"""
