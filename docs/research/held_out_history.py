"""AANMF++ (deterministic member): held-out history model with attention over user attributes, kernel-ridge term and ordinal head.

    m = HeldOutHistory(n_users, n_items, user_attr=(idx, w, mask), item_attr=(idx, w)).fit(u, i, r);  m.predict(u, i)

user attribute values: idx (U, J) int64 in [0, V), w (U, J) float, mask (U, J) bool (False = padding or missing)
item attribute values: idx (I, L) int64 in [0, G), w (I, L) float (0 = padding; multi-valued ones 1/sqrt(n))
See REPORT.md for the equations.
"""
import math
import numpy as np
import torch
from torch import nn


class _Spmm(torch.autograd.Function):
    """M @ x for a constant sparse CSR matrix M whose transpose Mt is at hand (CSR too)."""

    @staticmethod
    def forward(ctx, x, M, Mt):
        ctx.Mt = Mt
        return M @ x

    @staticmethod
    def backward(ctx, g):
        return ctx.Mt @ g.contiguous(), None, None


class History:
    """Training ratings in CSR order by user, with the transposed pattern; only the VALUES change from part to part."""

    def __init__(self, u, i, r, U, I):
        o = torch.argsort(u * I + i)
        self.u, self.i, self.r, self.order, self.U, self.I, self.N = u[o], i[o], r[o], o, U, I, len(u)
        self.t = torch.argsort(self.i * U + self.u)                                   # CSR order -> order by item
        ptr = lambda x, n: torch.cat([x.new_zeros(1), torch.bincount(x, minlength=n).cumsum(0)])
        self.pu, self.pi, self.ut = ptr(self.u, U), ptr(self.i, I), self.u[self.t]

    def csr(self, v):                                                                 # v (N) -> (U, I) and (I, U)
        f = lambda p, c, x, s: torch.sparse_csr_tensor(p, c, x, s, check_invariants=False)
        return f(self.pu, self.i, v, (self.U, self.I)), f(self.pi, self.ut, v[self.t], (self.I, self.U))

    def baselines(self, w, du, di):
        """damped means of the ratings with weight w (N); returns mean, user and item offsets, residuals (0 where w = 0)"""
        nu, ni = torch.bincount(self.u, w, self.U), torch.bincount(self.i, w, self.I)
        mu = (w * self.r).sum() / w.sum().clamp(min=1)
        e = (self.r - mu) * w
        bi = torch.bincount(self.i, e, self.I) / (ni + di)
        e = e - w * bi[self.i]
        bu = torch.bincount(self.u, e, self.U) / (nu + du)
        return mu, bu, bi, e - w * bu[self.u], nu, ni


class KernelRidge:
    """For every user a ridge regression of the user's residuals, with a kernel between items:
    G = <residual columns> + <who-rated columns> (both divided by sqrt(n_i + 1)) + wa * cosine of item attributes + wr.
    The user's own part of G is taken out, so that leave-one-out predictions (closed form) are honest training features."""

    def __init__(self, h, item_x, lams=(1.2, 2.7, 8.0), wa=.3, wr=.3, damp=15.):
        _, _, _, e, _, ni = h.baselines(torch.ones(h.N), damp, damp)
        s = (ni + 1).rsqrt()
        ev, av = e * s[h.i], s[h.i]                                                   # (N) this user's column of each factor
        dense = lambda v: torch.zeros(h.I, h.U).index_put_((h.i, h.u), v)
        c = nn.functional.normalize(item_x, dim=1)
        self.G = dense(ev) @ dense(ev).T + dense(av) @ dense(av).T + wa * c @ c.T + wr    # (I, I)
        self.h, self.lams = h, lams
        self.loo, self.alpha = torch.zeros(len(lams), h.N), torch.zeros(len(lams), h.N)
        p = h.pu.tolist()
        for a, b in zip(p[:-1], p[1:]):                                               # one dense solve per USER
            if a == b:
                continue
            it, y = h.i[a:b], e[a:b]
            K = self.G[it][:, it] - ev[a:b, None] * ev[a:b] - av[a:b, None] * av[a:b]
            for k, lam in enumerate(lams):
                Ki = torch.cholesky_inverse(torch.linalg.cholesky(K + lam * torch.eye(b - a)))
                al = Ki @ y
                self.alpha[k, a:b] = al
                self.loo[k, a:b] = y - al / Ki.diagonal()

    def predict(self, u, i):
        """(B, F); exact for pairs that are not in the history (the own part of the kernel vanishes there)"""
        return torch.stack([(self.h.csr(al)[0] @ self.G)[u, i] for al in self.alpha], 1)


class HeldOutHistory(nn.Module):
    def __init__(self, n_users, n_items, user_attr, item_attr, K=32, l2=70., lighter=(.4, .2), du=100., di=40., power=(.7, .6),
                 parts=20, steps=1, epochs=8, lr=1e-2, init=.05, members=4, kernel=True, max_levels=25, seed=0):
        super().__init__()
        t = lambda x, d: torch.as_tensor(np.asarray(x), dtype=d)
        self.ua, self.uw, self.um = t(user_attr[0], torch.int64), t(user_attr[1], torch.float32), t(user_attr[2], torch.bool)
        self.U, self.I, self.V = n_users, n_items, int(self.ua.max()) + 1
        idx, w = t(item_attr[0], torch.int64), t(item_attr[1], torch.float32)
        self.item_x = torch.zeros(n_items, int(idx.max()) + 1).scatter_add_(1, idx, w)   # (I, G)
        self.K, self.l2, self.lighter, self.du, self.di, self.power = K, l2, lighter, du, di, power
        self.parts, self.steps, self.epochs, self.lr, self.init = parts, steps, epochs, lr, init
        self.members, self.kernel, self.max_levels, self.seed = members, kernel, max_levels, seed

    # ---- parameters of one member: tables have K columns of factors and one column of bias
    def _new(self, seed, F):
        g, K = torch.Generator().manual_seed(seed), self.K
        T = lambda n: nn.Parameter(torch.randn(n, K + 1, generator=g) * self.init)
        tab = nn.ParameterDict(dict(p=T(self.U), q=T(self.I), y=T(self.I), c=T(self.I), z=T(self.U), d=T(self.U), a=T(self.V),
                                    g=T(self.item_x.shape[1])))
        D = lambda *s: nn.Parameter(torch.randn(*s, generator=g) / K ** .5)
        top = nn.ParameterDict(dict(Wa=D(K, K), Wq=D(K, K), b=nn.Parameter(torch.zeros(K)), w2=D(K), f=nn.Parameter(torch.zeros(F)),
                                    th=nn.Parameter((self.levels[1:] + self.levels[:-1]) / 2),
                                    ls=nn.Parameter(torch.tensor(-.1))))
        return nn.ModuleDict(dict(tab=tab, top=top)), g

    def _penalty(self, tab):
        m = dict(y=self.lighter[0], z=self.lighter[1])
        return sum(m.get(k, 1.) * (v * v).sum() for k, v in tab.items())

    # ---- everything that depends on the history only
    def _context(self, w):
        h = self.h
        mu, bu, bi, e, nu, ni = h.baselines(w, self.du, self.di)
        s = lambda n, p: ((n + 1 + 1e-6) ** -p * 50 ** (p - .5))[:, None]
        return dict(mu=mu, bu=bu, bi=bi, A=h.csr(w), E=h.csr(e), su=s(nu, self.power[0]), si=s(ni, self.power[1]))

    def _encode(self, m, c):
        t, w, K = m['tab'], m['top'], self.K
        (A, At), (E, Et) = c['A'], c['E']
        x = t['p'] + c['su'] * (_Spmm.apply(t['y'], A, At) + _Spmm.apply(t['c'], E, Et))                        # (U, K+1)
        q = t['q'] + c['si'] * (_Spmm.apply(t['z'], At, A) + _Spmm.apply(t['d'], Et, E)) + self.item_x @ t['g']   # (I, K+1)
        xb, qb, x, q, a = c['bu'] + x[:, K], c['bi'] + q[:, K], x[:, :K], q[:, :K], t['a'][:, :K]
        score = torch.tanh((a @ w['Wa'].T)[None] + (q @ w['Wq'].T + w['b'])[:, None]) @ w['w2']                 # (I, V) attention cell
        return x, q, xb, qb, score, q @ a.T + t['a'][:, K]                                                      # (I, V) a_v . q_i + bias

    def attention(self, score, u, i):                                                 # (B, J)
        v = self.ua[u]
        return torch.softmax(score[i[:, None], v].masked_fill(~self.um[u], -1e4), 1) * self.um[u]

    def _pairs(self, m, c, enc, u, i, f):
        x, q, xb, qb, score, val = enc
        lam = self.attention(score, u, i) * self.uw[u]
        z = c['mu'] + xb[u] + qb[i] + (x[u] * q[i]).sum(1) + (lam * val[i[:, None], self.ua[u]]).sum(1)
        return z + f @ m['top']['f'] if f.shape[1] else z

    def _above(self, m, z):                                                           # (B, L-1): P(rating > level k)
        return torch.special.ndtr((z[:, None] - m['top']['th']) / m['top']['ls'].exp())

    def _loss(self, m, z, r):                                                         # both in about the same units
        if not self.ordinal:
            return ((z - r) ** 2).mean()
        k = torch.bucketize(r, self.levels - 1e-6, right=True) - 1
        P = self._above(m, z)
        one = torch.ones(len(z), 1)
        Q = torch.cat([one, P, 0 * one], 1)
        p = (Q.gather(1, k[:, None]) - Q.gather(1, k[:, None] + 1))[:, 0].clamp(min=1e-6)
        return -1.7 * p.log().mean()

    def fit(self, u, i, r):
        u, i, r = torch.as_tensor(u), torch.as_tensor(i), torch.as_tensor(r, dtype=torch.float32)
        self.scale = 1.1 / r.std().clamp(min=1e-3)                                    # inside, ratings have standard deviation 1.1
        self.h = h = History(u, i, r * self.scale, self.U, self.I)
        self.levels = torch.unique(h.r)
        self.ordinal = 2 <= len(self.levels) <= self.max_levels
        if not self.ordinal:
            self.levels = torch.stack([h.r.min(), h.r.max()])
        self.lo, self.hi = float(self.levels[0]), float(self.levels[-1])
        self.krr = KernelRidge(h, self.item_x) if self.kernel else None
        feat = self.krr.loo.T.contiguous() if self.kernel else torch.zeros(h.N, 0)
        self.net = nn.ModuleList()
        for s in range(self.members):
            m, g = self._new(self.seed + s, feat.shape[1])
            self.net.append(m)
            opt = torch.optim.Adam(m.parameters(), lr=self.lr, foreach=True)
            total, k = self.epochs * self.parts * self.steps, 0
            for _ in range(self.epochs):
                for b in torch.randperm(h.N, generator=g).chunk(self.parts):
                    c = self._context(torch.ones(h.N).index_fill_(0, b, 0.))         # the part is NOT in the history
                    for _ in range(self.steps):
                        opt.param_groups[0]['lr'] = self.lr * .5 * (1 + math.cos(math.pi * k / total))
                        k += 1
                        z = self._pairs(m, c, self._encode(m, c), h.u[b], h.i[b], feat[b])
                        loss = self._loss(m, z, h.r[b]) + self.l2 / h.N * self._penalty(m['tab'])
                        opt.zero_grad(); loss.backward(); opt.step()
        return self

    @torch.no_grad()
    def predict(self, u, i):
        u, i = torch.as_tensor(u), torch.as_tensor(i)
        c = self._context(torch.ones(self.h.N))
        f = self.krr.predict(u, i) if self.kernel else torch.zeros(len(u), 0)
        out = 0
        for m in self.net:
            z = self._pairs(m, c, self._encode(m, c), u, i, f)
            if self.ordinal:
                z = self.levels[0] + (self._above(m, z) * self.levels.diff()).sum(1)
            out = out + z / self.members
        return (out.clamp(self.lo, self.hi) / self.scale).numpy()


class Safe:
    """Never worse than damped means: the weight of the model over damped means, and its l2 from a small grid, come from held-out
    training ratings (several splits where the data are small); then one fit on everything."""

    def __init__(self, make, l2=(70.,), min_val=2000, du=5., di=5.):
        self.make, self.grid, self.min_val, self.du, self.di = make, l2, min_val, du, di

    def _means(self, u, i, r, U, I):
        h = History(torch.as_tensor(u), torch.as_tensor(i), torch.as_tensor(r, dtype=torch.float32), U, I)
        mu, bu, bi, *_ = h.baselines(torch.ones(h.N), self.du, self.di)
        return lambda a, b: (mu + bu[a] + bi[b]).clamp(h.r.min(), h.r.max()).numpy()

    def fit(self, u, i, r):
        n = len(r); folds = int(min(5, max(1, math.ceil(self.min_val / (.1 * n))))); p = np.random.default_rng(123).permutation(n)
        val = np.array_split(p, 10)[-folds:]
        Y, B, T = [[] for _ in self.grid], [], []
        for v in val:
            t = np.setdiff1d(p, v)
            T.append(r[v])
            for k, l2 in enumerate(self.grid):
                m = self.make(l2=l2).fit(u[t], i[t], r[t]); Y[k].append(m.predict(u[v], i[v]))
            B.append(self._means(u[t], i[t], r[t], m.U, m.I)(torch.as_tensor(u[v]), torch.as_tensor(i[v])))
        B, T = np.concatenate(B), np.concatenate(T)
        best = None
        for k, l2 in enumerate(self.grid):
            x = np.concatenate(Y[k]) - B
            w = float(np.clip((x @ (T - B)) / max(x @ x, 1e-9), 0, 1))
            s = float(np.mean((B + w * x - T) ** 2))
            if best is None or s < best[0]:
                best = (s, l2, w)
        self.val_rmse, self.l2, self.w = best[0] ** .5, best[1], best[2]
        self.m = self.make(l2=self.l2).fit(u, i, r)
        self.means = self._means(u, i, r, self.m.U, self.m.I)
        return self

    def predict(self, u, i):
        b = self.means(torch.as_tensor(u), torch.as_tensor(i))
        return b + self.w * (self.m.predict(u, i) - b)
