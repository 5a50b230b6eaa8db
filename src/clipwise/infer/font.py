"""Letters for drawing into frames: the printable ASCII characters as small gray pictures.

Rasterised once from DejaVu Sans (free to use and embed, dejavu-fonts.github.io/License.html) at 21 pixels; 95 widths, then the
rows of a 1184 x 26 picture with 16 levels, two pixels a byte, compressed.
"""

from __future__ import annotations

import base64
import zlib
from functools import cache

import numpy as np
from numpy.typing import NDArray

ROWS = 26
_FIRST, _LAST = 32, 126


@cache
def glyphs() -> dict[str, NDArray[np.uint8]]:
    """Character -> (ROWS, width) picture, 0 paper to 255 ink."""
    data = np.frombuffer(zlib.decompress(base64.b85decode("".join(_PACKED))), np.uint8)
    count = _LAST - _FIRST + 1
    widths, packed = data[:count], data[count:].reshape(ROWS, -1)
    pixels = np.stack([packed >> 4, packed & 15], axis=-1).reshape(ROWS, -1) * np.uint8(17)
    edges = np.concatenate([[0], np.cumsum(widths.astype(int))])
    return {chr(_FIRST + n): pixels[:, edges[n] : edges[n + 1]] for n in range(count)}


# fmt: off
_PACKED = (
    'c-rlnYm6J!702)R?e$}49|@r)yGB(KXkpj+LMcVD^P#FrqU^%Q0I>n7szi$oA1YOddVyAItAJgqwo*lEi-vw9Hl>uR66=MAv<P+W1VMSvhC~Rm',
    'yBWOp?)p7F=iHg`*lULkNg7)1RkEJznYq4m@9&=TKj)6!(KqNB7Htmrv^(r}k6!Hd!NEb-Ca<?&^teUQX7joS#R1PizsJ+>-Q@Ln9d^fHU!TY0',
    'hHE_@o6T(-#`~NuhsQnOcDvx)LAFsg%0}5J8)c(xl#O!P%2gl!KRu0C?0G5@6e=6jeUXY;QG7Js%1Xx>(|h`%Q13Vw3u{MvW%XcmhCUkjPrbfz',
    'DLZa@rp8z(%xul)*PP1*S^vy<3J;T_H>2~kw=u<-t%UWPKKKWI105CS;VK-1J9_<;XO3-=&iEPIbVz}lEKkaB!N-o-#$g&9=~KqCilV@nm=3{r',
    '7C2VQ_!I9=!qwA_C)V>kn_uMDZGN%&YLLDOlxbcRdO+bpdEsf1$x8E`yPzt=Pt@?F0)s5vD=)s_XWk_^5z62v|Hm9nKYa-oPU2J--~gU91S2CH',
    'l;4@8hMNBr*Hqap^1@G;LM0!VgD>J!=_wrbCf2-FJYu2a&}j2(*iBd2O&1rDr}tYtrAw_R+?Dujo=l2znRs$5Do^Ty=)u!_ED%L}q=oyLsj>;4',
    'eFVS9IZtt(?C{8RE$2z7uKB6)gpgAdxGb$8Pa(MX6rWOT+Nrd7+6NyZ@wAK`!!E`F2;VxMN4?HYr1)tmG&xU-GR0elPdwWUcko2#mb&niJi#=c',
    'GT2e%DaCm@fDMSeq2uk<696K%7;NWhA`c&qinj;@0zI=;Ss$47t;>Q8y^YLpo|eood~xi)19@^bn|}QXt)<WA$x#v8c`{yqzB~!%bHnIqk$7UJ',
    'Y`8a1rZS7c6XD!enX|x-Fm?oc?5_E)nc_Tw^<l0hcAftY;b+}>iUpmG;8z<W``z8h)9v>R+zI!+uyZI~Kr<3Yo(LI}e01P;8j$fhHd6Ipp-h^U',
    'M@;FNbv)0Hb`MLifU}j`gzdT0_|4fQSPbC7lq>-M$9zNkqfGX}*;SZ#?o<dCi}I##@Y^r1<*BdX(|D@E$H*-3)GQKD7UdOjhn&HNgh;uqdLK|S',
    'QQ0|kFN~XW6(5lE<Ut&~#XjI9lJ&E`RVK(mmQ10UGRYj9To`!@OldsDPee|2o9LcA_36z0w|NSn8$+I0WU4n$;M}I+W28Lxm7g<rp2d8YWg6fD',
    'zY;ncLLa!wuK48pcRtshr&%@%vmoJbDWa+pXg+C(|23-f<kH6}K1I`zoN_>O?oxYu`zKq+eUBPOHO2aB*pLOM$6CfmL>{~)=Be>ZkRvDjxREE1',
    '+T%{1gzQV&CEjHKBXS?`v|1yc=$^m|HE3_B)m5#^;wj#wktaJ|6Pf|L#L^Q{hIVS=xCK@jm?_sPf0!~up1gULCws$Z?Pi>N^W-XCex5=-c`|d0',
    '{V80G`iXejnlbhpI*L}n1fN@!quu=-d=r|X+17bd=hFkN*o!Tm#&vMu{3!AihGop06|mzlC0svPey<pKaw-4T2Rt`Pt_aH54BAZhlFCz&g-#lN',
    'SDI?$Njulc(^creRGtc;X=X=&rvi)({0QBH<Um7~W@i=F!CIaKeD-V<bQ7ERrs!K|Wu$}xG8oHf3j%p^E~z|40O-((Hr0C&wWm<uBB2DmR+@*Q',
    'xZ~^}fG5)-(23}0nRWKe*H?h2#~Qyh=%;<B>0pcWCfjrNDL8USZ;L4O-tp`0QA=1!n4f7p&tl-iu|M_|GXfb&EW%RA!@$CXu(4C)Fvzxw2MO_g',
    'E}qEWJx()WY4|jrBt%3Od-G&lW-&lvVy4BDiO3&HW>8!aPqT{;Lr>;3sQ^~MS@mshh-9B?2A*z|>kk-P|BhV0OAV+&+`TWFj?7=1x1mVMfYs#w',
    'ZiXcj2A<-XHlDO|9Xyq!6l?Jm3z{lk<Ov=Fc%pku+|U6>ZB-bP$ceQ)v2+wJ5t-ySmtAu#f}&o^;n+{SewMmpt&7ByWtH<}MW8K<#>m=3a!sg%',
    '9-U!U8C9tr6k$3{A}~Qbfs#A}JiSKpQ{&0j@Y4a@_+3S*!x2c<4BiY<Rc(*Agq73;>c19GEC&WZ=La_}FR{_Qked{8VHd0g_Y(G~30<5>X*^9N',
    'y6~h~%>;#Wp4Ab!1@*X@TV}hW`*l>kEbH&>?_32OO_W4BPc9S(S><D>y(o@yJr2q<_Uw_y!*m{<>O+e16ettWPYs<X(?iNzeu^fjVE3(Q<#}w?',
    '1P;}_!p2}U^8&OVpA;6k9tVx8X++{ElqcQ1LMMxKPJ)1vq`RW?)T}TAPva>^k$8fx0Z+U=&_5`c%I(z^?B1()ui*(uM4y+A+Di5!OViMkBXX#@',
    'fn7i$&L3OQ^wXN+x@TZdnF-2A1MsV3wcW#qA&k9xuM#%N4+wXb&~Jd^9LfPtjaxS<ex0ZIOLU;TF%Xv@8I~sTC{$#D%GKX&ifVhjC8)r7Jt5o@',
    'M1QC96iG0!QL(7Gwt~EjodPFqsj3v&PooNtYCMgf)>nX_@}vh9p~*fR4YREL5iZ)>oN~`N<iEr4{InTl-Z|aWq$jx^&(WN;55;JPC8O;;B~!!`',
    'h#kNcdHT)HZBm}apMiKw<Z_$|5DkLGO9BtNAGhY3zfz-9ohJzQl`}rhs2$LK%9PAAFjXJGy+MMc9t5Fl;Avv6ji+39o|HD8Tm^5QcrrJTC*Gbk',
    'sm6D0RaiR$tc5o^c>?c_f-#cmD}V)}o{aIuCy~1|o%O3crG344;$lbuk8f?Fo#p0Lki&R6+zULRGa6YT$qK`+^7N%D<2?D9r-G6hkDzxb^rW!b',
    '9&brdf~x*7@HBD~I~2&+i)Ub=GHW9S-bV7VbdVB|5U^E6jVGH7cF{V$_-o&$W4y~*U6Le4FDa7EY2_pC;{A{BKH@Xi*gj|;PmyZ{p~Le9MxH2%',
    '#DAp2J~{a?4kb^ru@v!ynjhR^WA`RG!ABo7?#}I?tF6=ZZ`E5#j;U@#d>w*?A%Y_h;-7i)rd4KvVS^5$zl#*t+9!j*qjQdOr@vdKo@hK-S3*(Z',
    '3G7RoeWHYup{mrW>1_wGPi;Jbjm4b7_?$Px=FPN5axzIlTyEg6(I^v7I4#|I5)Q%-GNDP2k_~FkBpG($xYv;<j9#3;Q=TF%&QpW@YJ&*rTSl{j',
    'N47HE980L}@s_9(dd1hq6Ep~q?kTwP(<}#b7{@RHsH}5613Xoj#*<a5QEEt`91&R?)nG*w-b)<O8{{D64}=OEopLOL$%@8<2K%%&|D^E*tBv$i',
    'Ugs&ThCd*-kBAyiF!qrpRYOrqCd2>3&{kXasqyIAG2T!1$@^)GCufoMVb=@919+Lw)K6=9TG~}H@Wd9fBIjxRq^6$)Jy0}MP3hxmh&re8L<<QN',
    'Iw)}j$5RYUv1y9-9JRp77EkG@#uHfd9z2cVQ}Mtn=g-k^<KKAL-QsD9ZpQd7r18YlSX`K6N+FQKBWsyFQ7C0-FCHdFEZOE^BTryJ;HjOZ(L`(~',
    'o)6&IjLg|rG>C>Ne5b?F6`17Lb`L!$zugg=8hH{at>DUoMDb)WiE@3lYSd4LXs)9yu#Wid%i8t~#Lhe`tn!2_8R@dtRT~w^lL%dH#W$dzd>#7f',
    '2-i;}>k2Fh{_b@U`lEP$m3Xi=I^w(N+W4*uPi8bwI#2N`<2*Ub9r2yk1PXDey2`4XUs8F(1F~S*TPa<!8Vj=6O*j*QlYFTVPyCR0aus^<6n{=+',
    'a##CQ(((nGeKPV?-*>tPPhIR2_XaoQ!WvJ|8c++rW-W&%13xTdAc5A!v5dJ#EAMEirN_|-1iSib%d%#xfTskxO5n+xao|2nj_07X_^uaE7_GGB',
    'pM;zi0Q8j&Jb}OSs`iQGI>yiuN}|LHhUR#D*W#%a-|_yU9>-KQnndu$WS<&(j;Uw<sS8hRSJl8%prrC7oQ<jZr(G+0;)ANoR5hvl4S|BnlY13o',
    'KQsh?sZs0-Lpt%}C7hK>%yFnZ@n<ET(1Ud63D&Je(e+cxpr5K5Pnv#e<H>@KwF^(!M6N?W)%65cgS(%t(3RLDxG_~vik`ofaN+_V!ns-qIzACy',
    'PyR_w-xt`s__^mc@ORK7;S)yw&LkfdZ<M*2(eh92JgLbdAOo{0YJQyabR8{V+hN~unm_`JWIgQLCLM=~=lW^<B$-s-c6o~Z)_08(T~Ge0AE{ep',
    'm@mMrjD!|b@{@k5U;_Ib`SD}E!5?(t$t0&*Jn_GH5R=>T<Gcy1CU_NsjbGd&ZkK0No~#OlUPzL+u}oWd^Uzs{K4|7~UWg|PjSuGu$FMt3V14gX',
    'D84&ji0^L3`0nt)wx^BpT^moteixov@!f&4+7j{f*PR&Epb?Uv7|O!EqaWj=<QAB-IfrZAhF7J*mY6?g>*vWm!}9|Zd@qgl!9=4Tr~RszB_eZz',
    '=f`{UgxOwo|1LsWJw}^bxP?RecgPb~(8XuLyNc?~m`i~Q2)hb1@&tORYkr(~ifE?KLb5KFprGw|*ZsSu3JX8?Y?uAJ>#IEIOSJJcq8Rt@IL!z6',
    '7B*E!ikJeT=OLajM8!=#FpQL6lghXZprg1S?5L?c@#u1uctR1_ou`1JROO!er)A1BtNEvPo=j4-8&6&HPuNE?{z;hh2(<=s6o(*QhSiZF_R}bd',
    '(G;#PpQ)#x$b?v)l;`PEm`R6x6kh~r9%F%J_3Z)Nzw6+M`*!4scBA<F1xB9Oerb`%{-~JtOADBIvd=EuugY=8ZkMrgjWi$RJY|FDO!yN|E(%+3',
    '_Ms~!DU9zI;F}O#-Y?L3f^*mv15f>2$eW~87oKd2@%;jy9(RS+Dj>4yNtvF9^JJZ-E`a5rkxrIyu}m`B2&Pm6@-%AX2^3a$p3Kt=QRL}LV}88(',
    '9OlO#I}05`o~*g~Z!CB6gxTIMJh46U8Nc2hwM0Dam|gq>V^>0?X3L$~v4R#Do$EviY-1Q#3`L`!CAHu1)R-+-_wS+?^!}6nenDHAZ%Ii1MS3G*',
    'emz@G*-v&0w={eg_*3I^=YLP^qP*|Mc^Xgj&OfcEY+X9XX5TsY17qRy8K#UO%UIIhFUW;2h$njgsgoItzAuS+#fwr5O`fAT(DMB0Lf;L`X3qa6',
    'SN)>!M2p=$xAuLyb(in$9L^awgSS*K6;GyYn~?4O{?q^R`<YivH=n-HHu{y%VN(TZ>XN>nxqd^*wVR#>EL|d=tcr03nGR|1Xa1ROl#a#o#Tt@+',
    'zA3-%6*b%TMr$K{sd#Fx@dKgo20UN<a-KY0#<IcFM!B@*KSX6576',
)
